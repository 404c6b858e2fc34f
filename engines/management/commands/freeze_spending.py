"""`manage.py freeze_spending --reason R [--lift]`: nobody buys cloud time, in any team, until it is lifted."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from engines.models import Freeze
from portal import clock
from portal.accounts.models import Team
from portal.audit.log import record
from portal.live.bus import publish

BY = "whoever runs the portal"


class Command(BaseCommand):
    help = "Freezes all spending on cloud time, in every team, or lets it go on. A team's own freeze is its own."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True)
        parser.add_argument("--lift", action="store_true")

    @transaction.atomic
    def handle(self, *args: Any, reason: str, lift: bool, **options: Any) -> None:
        teams = list(Team.objects.select_for_update(no_key=True).order_by("pk"))  # as limits.freeze does
        if lift:
            changed = Freeze.objects.filter(team=None).delete()[0] > 0
        else:
            facts = {"at": clock.now(), "by": BY, "reason": reason}
            changed = Freeze.objects.get_or_create(team=None, defaults=facts)[1]
        for team in teams if changed else ():
            action = "cloudtime.thawed" if lift else "cloudtime.frozen"
            record(team=team, actor=None, action=action, target=team, reason=reason)
            publish(team.pk, "cloudtime")
        done = "go on" if lift else "are frozen"
        self.stdout.write(f"Purchases {done}." if changed else "Nothing was to be changed.")
