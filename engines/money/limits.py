"""How much may be spent, and whether at all. What is open counts as spent: an unknown answer may be a charge."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum

from engines.enums import OPEN
from engines.models import Engine, Operation
from engines.money.amounts import dollars
from engines.money.models import Ceiling, Extension, Freeze, LedgerEntry, Limits
from engines.operations.moves import Decider
from portal.accounts.models import Team
from portal.audit.log import record
from portal.live.bus import publish


class OverLimit(Exception):
    """It would cost more than the team lets be spent. `str()` says which limit, and what is left of it."""


class Frozen(Exception):
    """Spending is frozen. `str()` says by whom and why."""


def limits_of(team: Team) -> Limits:
    return Limits.objects.of(team).first() or Limits(team=team)


def ceiling_of(team: Team) -> Ceiling | None:
    return Ceiling.objects.of(team).first()


def freeze_of(team: Team) -> Freeze | None:
    """Return the freeze that holds for the team; that of everybody comes first."""
    return Freeze.objects.filter(Q(team=team) | Q(team__isnull=True)).order_by(F("team").asc(nulls_first=True)).first()


@transaction.atomic
def freeze(team: Team, by: Decider, now: datetime) -> None:
    """Stop all spending of the team: at the claim and at the arming too. Frozen already, it stays as it is.

    Once it returns, nothing more is armed: the arming reads it under the same lock.
    """
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    facts = {"at": now, "by": str(by.user)[:150], "reason": by.reason}
    if Freeze.objects.get_or_create(team=team, defaults=facts)[1]:
        record(team=team, actor=by.user, action="cloudtime.frozen", target=team, origin=by.origin, reason=by.reason)
        publish(team.pk, "cloudtime")


@transaction.atomic
def thaw(team: Team, by: Decider, shown: str) -> bool:
    """Let the team's spending go on, unless its freeze is another than the one `shown`; return whether it does.

    A freeze of everybody stays.
    """
    held = Freeze.objects.filter(team=team).first()
    if held and str(held.pk) != shown:
        return False
    if held and held.delete()[0]:
        record(team=team, actor=by.user, action="cloudtime.thawed", target=team, origin=by.origin, reason=by.reason)
        publish(team.pk, "cloudtime")
    return True


def check(
    team: Team, user_id: Any, engine: Engine | None, hours: Decimal, cost: int, now: datetime, *, without: Any = None
) -> None:
    """Raise Frozen, or OverLimit if this on top of all that was spent is too much; `without` is not counted.

    `engine` is None for one that is to be created.

    Only what holds the team's lock until it has saved its own row can rely on the answer.
    """
    if freeze := freeze_of(team):
        raise Frozen(str(freeze))
    check_engine(team, engine, hours, cost, without=without)
    check_total(team, user_id, cost, now, without=without)


def check_engine(team: Team, engine: Engine | None, hours: Decimal, cost: int, *, without: Any = None) -> None:
    """Raise OverLimit if this is too much for one purchase, or for this engine."""
    limits = limits_of(team)
    if hours > limits.operation_hours:
        raise OverLimit(f"At most {limits.operation_hours.normalize():f} hours can be bought at once.")
    _within(cost, limits.operation_cost, 0, "At most {limit} can be spent at once.")
    bought = hours_bought(team, engine, without) if engine else Decimal(0)
    if hours + bought > limits.engine_hours:
        most, used = limits.engine_hours.normalize(), bought.normalize()
        raise OverLimit(f"{engine or 'An engine'} may be extended by {most:f} hours in all; {used:f} are used up.")


def check_total(team: Team, user_id: Any, cost: int, now: datetime, *, without: Any = None) -> None:
    """Raise Frozen, or OverLimit if so much, for however many engines, is more than is left of a day or month."""
    if freeze := freeze_of(team):
        raise Frozen(str(freeze))
    for limit, spent, words in _spent(team, user_id, limits_of(team), now, without):
        _within(cost, limit, spent, words)


def needs_approval(team: Team, cost: int) -> bool:
    return cost > limits_of(team).approval_cost


def _spent(team: Team, user_id: Any, limits: Limits, now: datetime, without: Any) -> list[tuple[int, int, str]]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = today.replace(day=1)
    return [
        (limits.user_day, spent(team, today, without, user_id), "You may spend {limit} a day; {left} is left today."),
        (limits.team_day, spent(team, today, without), "The team may spend {limit} a day; {left} is left today."),
        (limits.team_month, spent(team, month, without), "The team may spend {limit} a month; {left} is left of it."),
    ]


def _within(cost: int, limit: int, already: int, words: str) -> None:
    if cost + already > limit:
        left = dollars(max(limit - already, 0))
        raise OverLimit(f"This costs {dollars(cost)}. {words.format(limit=dollars(limit), left=left)}")


def spent(team: Team, since: datetime, without: Any = None, user_id: Any = None) -> int:
    """Return what was spent since then, and what is open, in microcents."""
    # Open ones first: one that is booked between the two questions is counted twice, never not at all.
    held = _open(team, without)
    booked = LedgerEntry.objects.of(team).filter(at__gte=since).exclude(operation_id=without)
    if user_id is not None:
        held = held.filter(operation__requested_by=user_id)
        booked = booked.filter(user=user_id)
    return int(_sum(held, "cost") + _sum(booked, "cost"))


def hours_bought(team: Team, engine: Engine, without: Any = None) -> Decimal:
    held = _open(team, without).filter(operation__engine__uid=engine.uid)
    booked = LedgerEntry.objects.of(team).filter(engine_uid=engine.uid).exclude(operation_id=without)
    return Decimal(_sum(held, "hours")) + Decimal(_sum(booked, "hours"))


def _open(team: Team, without: Any) -> QuerySet[Extension]:
    waiting = Operation.objects.of(team).filter(state__in=OPEN).exclude(pk=without)
    return Extension.objects.of(team).filter(operation__in=waiting)


def _sum(rows: QuerySet[Any], column: str) -> Any:
    return rows.aggregate(sum=Sum(column))["sum"] or 0
