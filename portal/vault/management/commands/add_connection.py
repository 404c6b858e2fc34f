"""`manage.py add_connection --team acme --name Hosted --url https://api.inference.sh`: let the team use that API.

Whoever can run this command decides where people's keys are sent: CONNECTION_HOSTS, which holds for admins in the
browser, does not hold here. CONNECTION_NETWORKS does, at each call.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.accounts.models import Team
from portal.vault import connections
from portal.vault.addresses import BadAddress, checked


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, help="the team's short name")
        parser.add_argument("--name", required=True)
        parser.add_argument("--url", required=True, help="https, or http on this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            raise CommandError(f"There is no team {options['team']}; make it with add_member.")
        try:
            connection = connections.add(team, options["name"], checked(options["url"]), by=None)
        except (BadAddress, connections.Taken) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{team.slug} uses {connection.base_url}; its people enter their keys on the Keys page")
