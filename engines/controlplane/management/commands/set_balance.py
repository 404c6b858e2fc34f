"""`manage.py set_balance --team demo --dollars 250.00`"""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from engines.controlplane import money
from engines.controlplane.enums import EntryKind
from engines.controlplane.models import Team, atomic
from engines.controlplane.money import MICROCENTS_PER_DOLLAR

MOST_DOLLARS = Decimal(10_000_000)


class Command(BaseCommand):
    help = "Set what a team can spend at the control plane, and make the team if there is none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, help="the team's slug")
        parser.add_argument("--dollars", required=True, help="for example 250.00")

    def handle(self, *args: Any, team: str, dollars: str, **options: Any) -> None:
        microcents = _microcents(dollars)
        with atomic():
            row, _ = Team.objects.get_or_create(slug=team, defaults={"name": team.capitalize()})
            row = money.locked(row.pk)
            if microcents < row.held_microcents:
                raise CommandError(
                    f"{money.dollars(row.held_microcents)} are held for extensions that are being settled"
                )
            if change := microcents - row.balance_microcents:
                money.book(row, EntryKind.DEPOSIT, change, "set by hand")
        self.stdout.write(f"{row.name} can spend ${Decimal(microcents) / MICROCENTS_PER_DOLLAR:.2f}")


def _microcents(dollars: str) -> int:
    try:
        amount = Decimal(dollars)
    except InvalidOperation as error:
        raise CommandError(f"{dollars!r} is not an amount of dollars") from error
    if not amount.is_finite() or not 0 <= amount <= MOST_DOLLARS:
        raise CommandError(f"the balance must be between 0 and {MOST_DOLLARS}")
    return int(amount * MICROCENTS_PER_DOLLAR)
