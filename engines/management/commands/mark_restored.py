"""`manage.py mark_restored`: run it after a backup was restored, and before workers are started."""

from typing import Any

from django.core.management.base import BaseCommand

from engines.restored import hold_back
from portal import clock
from portal.accounts.models import Team


class Command(BaseCommand):
    help = (
        "Says that the database came back from a backup: nothing that was waiting in it is sent, purchases are to be "
        "confirmed again, and pages say so for a week. Run it before workers are started."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        held = sum(hold_back(team, clock.now()) for team in Team.objects.order_by("pk"))
        self.stdout.write(f"{held} operations will not be sent.")
