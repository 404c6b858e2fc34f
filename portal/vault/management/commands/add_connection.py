"""`manage.py add_connection --team acme --name Hosted --url https://api.inference.sh`: let the team use that API.

Whoever can run this command decides where people's keys are sent: there is no such form in the portal.
"""

from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from portal.accounts.models import Team
from portal.audit.log import record
from portal.vault.models import Connection

LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
        url = checked(options["url"])
        if Connection.objects.of(team).filter(base_url=url).exists():
            raise CommandError(f"{team.slug} has a connection to {url} already.")
        with transaction.atomic():
            connection = Connection.objects.create(team=team, name=options["name"], base_url=url)
            record(team=team, actor=None, action="connection.added", target=connection, after={"address": url})
        self.stdout.write(f"{team.slug} uses {url}; its people enter their keys on the Keys page")


def checked(url: str) -> str:
    """Return the address without a trailing slash. Raises CommandError if keys should not travel there."""
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not safe or not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise CommandError("The address must be https://host, or http on this machine, and nothing behind the path.")
    return url.rstrip("/")
