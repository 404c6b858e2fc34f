"""`manage.py create_api_key --team demo --name NAME [--scopes engines:read,engines:write]`"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from engines.controlplane import keys
from engines.controlplane.models import Team


class Command(BaseCommand):
    help = "Make a key of the control plane, and its team if there is none. Prints the key, alone, on stdout."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, help="the team's slug")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument("--scopes", default="", help="comma-separated; none means full access")

    def handle(self, *args: Any, team: str, name: str, scopes: str, **options: Any) -> None:
        asked = [scope.strip() for scope in scopes.split(",") if scope.strip()]
        if unknown := set(asked) - {*keys.SCOPES, "*"}:
            raise CommandError(f"unknown scope {', '.join(sorted(unknown))}; there are {', '.join(keys.SCOPES)} and *")
        row, _ = Team.objects.get_or_create(slug=team, defaults={"name": team.capitalize()})
        self.stdout.write(keys.issue(row, name, asked)[1])
