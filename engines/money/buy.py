"""A confirmed quote becomes an operation, within the limits, in one transaction; nothing is sent yet."""

import uuid
from datetime import datetime, timedelta

from django.db import transaction

from engines.enums import MONEY, OPEN, UNSENT, State, Verb
from engines.models import Engine, Operation
from engines.money import amounts, limits
from engines.money.models import MAY_TRY_AGAIN, Extension
from engines.money.order import Order
from engines.money.preflight import not_charged
from engines.money.quote import Quote
from engines.money.record import End, record
from engines.operations.moves import Decider
from engines.operations.request import Busy, Changed, Wish, request, said_before
from portal.accounts.models import Team, User
from portal.audit.origin import Origin
from portal.vault.models import StoredKey

# What was confirmed is not bought much later: a broker or worker that was away must not surprise anybody.
DEADLINE = timedelta(minutes=10)


class OrderedAgain(Busy):
    """What failed was tried again already: of two tries of one order, both may be charged."""

    def __init__(self, other: Operation) -> None:
        super().__init__(other)
        self.args = (f"It was ordered again already, by {other.requested_name}: {other}. Nothing was ordered.",)


@transaction.atomic
def buy(
    quote: Quote,
    reason: str,
    *,
    engine: Engine,
    user: User,
    key: StoredKey,
    origin: Origin,
    now: datetime,
    approved_name: str = "",
) -> Operation:
    """Record the purchase and hold its cost. The caller has checked role, scope and engine.

    Sent twice, the same quote returns the same operation. Raises limits.Frozen, limits.OverLimit, request.Busy if
    another operation on the engine is open, or a purchase for it by way of another connection, and request.Changed if
    the quote's id was used with other words.
    """
    Team.objects.select_for_update(no_key=True).get(
        pk=engine.team_id
    )  # one purchase of a team at a time: limits are counted
    earlier_one = earlier_try(quote, engine)
    retry_of = earlier_one.operation if earlier_one else None
    wish = Wish(quote.id, Verb.EXTEND, reason, DEADLINE, quote.parameters(), retry_of)
    if earlier := Operation.objects.of(engine.team).filter(pk=quote.id).first():
        return _same(earlier, wish, engine, user)
    if other := _bought_elsewhere(engine):
        raise Busy(other)
    limits.check(engine.team, user.pk, engine, quote.hours, quote.cost, now)
    operation = request(wish, engine=engine, user=user, key=key, origin=origin, now=now)
    Extension.objects.create(
        operation=operation,
        team=engine.team,
        hours=quote.hours,
        target=quote.target,
        seen_threshold=quote.threshold,
        seen_price=quote.price,
        cost=quote.cost,
        retry_of=earlier_one,
        approved_name=approved_name,
    )
    return operation


def _bought_elsewhere(engine: Engine) -> Operation | None:
    """Return the open purchase for this machine by way of another connection: two addresses may lead to one API."""
    rows = Operation.objects.of(engine.team).filter(verb__in=MONEY, state__in=OPEN, engine__uid=engine.uid)
    return rows.exclude(engine=engine).first()


def cancel(operation: Operation, *, by: Decider) -> None:
    """Take a purchase back before it is armed: nothing of it was sent, and nothing is.

    Raises ValueError once it may have been sent, and Moved if it has just moved on.
    """
    if operation.verb not in MONEY or operation.state not in UNSENT:
        raise ValueError(f"a purchase that is {operation.state} cannot be taken back")
    note = f"Cancelled by {by.user} before it was sent{' again' if operation.attempts else ''}."
    record(operation, End(State.CANCELLED, not_charged(operation), f"{note} Nothing was charged."), by)


def earlier_try(quote: Quote, engine: Engine) -> Extension | None:
    rows = Extension.objects.of(engine.team).filter(operation__engine=engine).select_related("operation")
    return rows.filter(pk=uuid.UUID(quote.retry_of)).first() if quote.retry_of else None


@transaction.atomic
def rent(
    order: Order, reason: str, *, user: User, key: StoredKey, origin: Origin, now: datetime, approved_name: str = ""
) -> Operation:
    """Record the order of a machine at the key's connection, and hold its cost. Otherwise as `buy`.

    Raises OrderedAgain if it is another try of an order that was tried again already.
    """
    team = Team.objects.select_for_update(no_key=True).get(pk=key.team_id)
    earlier_one = earlier_order(order.retry_of, team)
    retry_of = earlier_one.operation if earlier_one else None
    wish = Wish(order.id, Verb.CREATE, reason, DEADLINE, order.parameters(), retry_of)
    if earlier := Operation.objects.of(team).filter(pk=order.id).first():
        return _same(earlier, wish, None, user)
    if earlier_one and (other := next_try(earlier_one)):
        raise OrderedAgain(other)
    limits.check(team, user.pk, None, order.hours, order.cost, now)
    operation = request(wish, engine=None, user=user, key=key, origin=origin, now=now)
    Extension.objects.create(
        operation=operation,
        team=team,
        hours=order.hours,
        target=amounts.after(now, order.hours),
        seen_threshold=now,
        seen_price=order.price,
        cost=order.cost,
        retry_of=earlier_one,
        approved_name=approved_name,
    )
    return operation


def earlier_order(retry_of: str, team: Team) -> Extension | None:
    """Return the team's order of that id, if it has ended and it is certain that nothing was charged for it."""
    try:
        pk = uuid.UUID(retry_of)
    except ValueError:
        return None
    rows = Extension.objects.of(team).filter(operation__verb=Verb.CREATE, outcome__in=MAY_TRY_AGAIN)
    return rows.exclude(operation__state__in=OPEN).select_related("operation").filter(pk=pk).first()


def next_try(earlier: Extension) -> Operation | None:
    """Return what it was tried again by: if that failed too, it is the one to try again."""
    found = earlier.retries.select_related("operation").first()
    return found.operation if found else None


def _same(earlier: Operation, wish: Wish, engine: Engine | None, user: User) -> Operation:
    if not said_before(earlier, wish, user, engine):
        raise Changed
    return earlier
