"""`manage.py verify_audit`: exit 0 and a count if every chain is whole, exit 1 and the first bad entry if not."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.accounts.models import Team
from portal.audit.verify import verify


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        total = 0
        for team in Team.objects.order_by("slug"):
            count, fault = verify(team)
            if fault is not None:
                raise CommandError(f"{team.slug}: entry #{fault.number} {fault.words}")
            total += count
        self.stdout.write(f"{total} entries, all whole")
