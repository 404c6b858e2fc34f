"""`manage.py seal_audit --before DATE`: move older entries to signed files in DATA_DIR/audit-seals."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.accounts.models import Team
from portal.audit import seals


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--before", required=True, type=datetime.fromisoformat, help="a date, or a time in UTC")
        parser.add_argument("--team", help="only this team, by its slug")

    def handle(self, *args: Any, **options: Any) -> None:
        moment: datetime = options["before"]
        before = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        for team in Team.objects.filter(**{"slug": options["team"]} if options["team"] else {}).order_by("slug"):
            try:
                made = seals.seal(team, before)
            except seals.Broken as broken:
                raise CommandError(f"not sealed: {broken}") from broken
            words = f"{made} sealed in {seals.folder() / made.file}" if made else "nothing to seal"
            self.stdout.write(f"{team.slug}: {words}")
