from typing import Any

from django.core.management.base import BaseCommand

from portal.processes import Failed
from portal.up import here, up


class Command(BaseCommand):
    help = "Start everything on this machine: portal, workers, broker, Engines API, a demo fleet."
    # The databases may not exist yet, and what is wrong with them is said by the migration.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            up(here())
        except Failed as failure:
            raise SystemExit(f"up: {failure}") from None
