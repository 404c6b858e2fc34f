"""A team's balance, in microcents: 1 dollar is 100 cents, 1 cent is 1,000,000 microcents.

A balance changes together with its ledger entry, in the transaction of what it pays for, and nowhere else.
"""

from decimal import ROUND_CEILING, Decimal

from django.db.models import F, Max

from engines.controlplane import problems
from engines.controlplane.enums import EntryKind
from engines.controlplane.models import ApiKey, Engine, Extension, LedgerEntry, Team

MICROCENTS = 1_000_000  # in a cent
MICROCENTS_PER_DOLLAR = 100 * MICROCENTS


def price_of(hourly_price: int, hours: Decimal) -> int:
    """Return what so many hours cost, in microcents, rounded up. `hourly_price` is in cents."""
    return int((hourly_price * MICROCENTS * hours).to_integral_value(ROUND_CEILING))


def dollars(microcents: int) -> str:
    """Return the amount as a person reads it."""
    exact = Decimal(microcents) / MICROCENTS_PER_DOLLAR
    return f"${exact:.2f}" if exact == exact.quantize(Decimal("0.01")) else f"${exact.normalize():f}"


def locked(team_id: str) -> Team:
    """Return the team's row, locked. Always the last lock that is taken."""
    return Team.objects.select_for_update(no_key=True).get(pk=team_id)


def need(team: Team, microcents: int) -> None:
    """Raise Problem 402 unless this much is there and held for nothing else."""
    free = team.balance_microcents - team.held_microcents
    if microcents > free:
        raise problems.payment_required(
            f"This costs {dollars(microcents)}, and {dollars(free)} can be spent. Nothing was changed.",
            needed_microcents=microcents,
            available_microcents=free,
        )


def hold(team: Team, microcents: int) -> None:
    """Set money aside. Raises Problem 402. The caller holds the team's lock."""
    need(team, microcents)
    Team.objects.filter(pk=team.pk).update(held_microcents=F("held_microcents") + microcents)


def release(team: Team, microcents: int) -> None:
    Team.objects.filter(pk=team.pk).update(held_microcents=F("held_microcents") - microcents)


def book(
    team: Team,
    kind: EntryKind,
    microcents: int,
    text: str,
    *,
    engine: Engine | None = None,
    extension: Extension | None = None,
    key: ApiKey | None = None,
) -> LedgerEntry:
    """Change the balance by so much (negative: money goes out) and write its entry. The caller locks the team."""
    balance = Team.objects.values_list("balance_microcents", flat=True).get(pk=team.pk) + microcents
    Team.objects.filter(pk=team.pk).update(balance_microcents=balance)
    last = LedgerEntry.objects.filter(team=team).aggregate(last=Max("number"))["last"] or 0
    return LedgerEntry.objects.create(
        team=team,
        number=last + 1,
        kind=kind,
        amount_microcents=microcents,
        balance_microcents=balance,
        engine=engine,
        extension=extension,
        key=key,
        text=text[:500],
    )
