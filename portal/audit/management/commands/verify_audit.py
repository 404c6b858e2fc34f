"""`manage.py verify_audit`: exit 0 and a count if every chain is whole, exit 1 and the first bad entry if not."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.accounts.models import Team
from portal.audit import checkpoints
from portal.audit.verify import verify


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--team", help="only this team, by its slug")
        parser.add_argument("--since-checkpoint", action="store_true", help="only what is newer than a checkpoint")
        parser.add_argument("--json", action="store_true", help="one JSON object per team instead of words")

    def handle(self, *args: Any, **options: Any) -> None:
        teams = Team.objects.order_by("slug")
        if options["team"]:
            teams = teams.filter(slug=options["team"])
            if not teams:
                raise CommandError(f"there is no team {options['team']!r}")
        elif gone := checkpoints.orphans():
            raise CommandError(f"entry #1 is missing, and so is its whole team: only {gone[0]} tells of it")
        total, broken = 0, False
        for team in teams:
            count, fault = verify(team, since_checkpoint=options["since_checkpoint"])
            total += count
            broken = broken or fault is not None
            if options["json"]:
                self.stdout.write(json.dumps({"team": team.slug, "entries": count, "fault": fault and vars(fault)}))
            elif fault is not None:
                raise CommandError(f"{team.slug}: entry #{fault.number} {fault.words}")
        if broken:
            sys.exit(1)
        if not options["json"]:
            self.stdout.write(f"{total} entries, all whole")
