"""Paid time for many engines, or many machines, at once: what it costs in all, and whether the limits allow that.

Each engine's time, and each machine, is a purchase of its own (engines.money.buy), or waits for a second person on its
own.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from engines.enums import UNSENT, Verb
from engines.models import Batch, Engine, Operation
from engines.money import amounts, approve, limits
from engines.money.amounts import PaidTime
from engines.money.buy import DEADLINE, buy, cancel, earlier_order, rent
from engines.money.models import Proposal
from engines.money.order import Order, Orders
from engines.money.quote import Quote
from engines.operations.moves import Decider, Moved
from engines.operations.request import Busy, Changed
from portal.accounts.models import Team, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.vault.models import StoredKey


@dataclass
class Offer:
    """What is bought for each engine, and why nothing is for the others."""

    quotes: dict[int, Quote] = field(default_factory=dict)
    wont: list[tuple[Engine, str]] = field(default_factory=list)
    forbidden: str = ""  # why none of it can be bought
    needs_approval: bool = False

    @property
    def cost(self) -> int:
        """In microcents."""
        return sum(quote.cost for quote in self.quotes.values())

    def mark(self, engine: Engine) -> str:
        """What a person agrees to for this engine."""
        quote = self.quotes[engine.pk]
        price = amounts.dollars(quote.hourly)
        return f"{quote.hours} h at {price} an hour from {quote.threshold:%Y-%m-%d %H:%M:%S} UTC"


def offer(
    engines: Iterable[Engine],
    until: Callable[[PaidTime], datetime],
    *,
    team: Team,
    user: User,
    now: datetime,
    earlier: dict[int, uuid.UUID],
) -> Offer:
    """Reckon out what it takes to run `until` then. `earlier` has the operation that is tried again, by engine.

    What is too much for one engine leaves that one out; what is too much in all forbids it all.
    """
    made = Offer()
    for engine in engines:
        paid = amounts.paid_time(engine)
        assert paid is not None  # engines.operations.extend refuses it without
        try:
            quote = Quote.until(until(paid), paid, str(earlier.get(engine.pk, "")))
            limits.check_engine(team, engine, quote.hours, quote.cost)
        except (ValueError, OverflowError, limits.OverLimit) as refused:
            made.wont.append((engine, str(refused)))
        else:
            made.quotes[engine.pk] = quote
    # Many small ones are no way around the second person.
    made.needs_approval = limits.needs_approval(team, made.cost)
    try:
        limits.check_total(team, user.pk, made.cost, now)
    except (limits.Frozen, limits.OverLimit) as refused:
        made.forbidden = str(refused)
    return made


def buy_all(
    asked: Iterable[tuple[uuid.UUID, Engine, StoredKey]],
    made: Offer,
    *,
    batch: Batch,
    user: User,
    origin: Origin,
    now: datetime,
) -> list[tuple[Engine, str]]:
    """Record a purchase for each engine, or ask for its approval; return those for which neither was possible."""
    lost = []
    for id, engine, key in asked:
        quote = replace(made.quotes[engine.pk], id=id)
        words = {"key": key, "user": user, "origin": origin, "now": now}
        try:
            _ask(quote, batch, engine, needs_approval=made.needs_approval, **words)
        except (Busy, Changed, limits.OverLimit, limits.Frozen) as refused:
            lost.append((engine, str(refused)))
    return lost


def _ask(quote: Quote | Order, batch: Batch, engine: Engine | None, *, needs_approval: bool, **words: Any) -> None:
    """Record one purchase of the batch, or ask for its approval. Raises as these do."""
    if needs_approval:
        approve.propose(quote, batch.reason, engine=engine, **words)
        Proposal.objects.of(batch.team).filter(pk=quote.id).update(batch=batch)
        return
    if isinstance(quote, Order):
        rent(quote, batch.reason, **words)
    else:
        assert engine is not None
        buy(quote, batch.reason, engine=engine, **words)
    Operation.objects.of(batch.team).filter(pk=quote.id).update(batch=batch)


@transaction.atomic
def rent_all(orders: Orders, reason: str, *, user: User, key: StoredKey, origin: Origin, now: datetime) -> Batch:
    """Record an order for each machine, or ask for its approval: all or none. It is one decision, of their sum.

    Sent twice, the same orders return the same batch. Raises limits.Frozen, limits.OverLimit, request.Changed if
    their id was used with other words, and buy.OrderedAgain if one of what they try again was tried again already.
    """
    team = Team.objects.select_for_update(no_key=True).get(pk=key.team_id)  # as in buy: limits are counted
    if earlier := Batch.objects.of(team).filter(pk=orders.id).first():
        if (earlier.requested_by_id, earlier.reason) != (user.pk, reason):
            raise Changed
        return earlier
    limits.check(team, user.pk, None, orders.one.hours, orders.cost, now)
    needs_approval = limits.needs_approval(team, orders.cost)
    first = earlier_order(orders.tries[0], team) if orders.tries else None
    asked: dict[str, Any] = {"verb": Verb.CREATE, "reason": reason, "patience": DEADLINE, "requested_at": now}
    asked |= {"retry_of": first.operation.batch if first else None}
    batch = Batch.objects.create(id=orders.id, team=team, requested_by=user, requested_name=str(user)[:150], **asked)
    cost = amounts.dollars(orders.cost)
    facts: dict[str, Any] = {"asked": orders.number, "cost": cost, "approval": needs_approval}
    record(team=team, actor=user, action="batch.create", target=batch, origin=origin, reason=reason, **facts)
    for order in orders.each:
        _ask(order, batch, None, needs_approval=needs_approval, user=user, key=key, origin=origin, now=now)
    return batch


def take_back(batch: Batch, *, by: Decider, now: datetime) -> int:
    """Cancel what was not armed yet, and end what waits for a second person; return how many that were."""
    taken = 0
    # First: what a second person approves before that is an operation, and found below.
    for proposal in waiting(batch, now):
        with suppress(approve.NotApproved):
            approve.reject(proposal, by=by, now=now)
            taken += 1
    rows = Operation.objects.of(batch.team).filter(batch=batch, state__in=UNSENT)
    for operation in rows.select_related("team", "engine__connection", "extension"):
        with suppress(Moved):  # armed just now, or ended
            cancel(operation, by=by)
            taken += 1
    return taken


def waiting(batch: Batch, now: datetime) -> list[Proposal]:
    """Return what waits for a second person."""
    rows = Proposal.objects.of(batch.team).filter(batch=batch, state=Proposal.State.WAITING, expires_at__gt=now)
    found = rows.select_related("engine", "team", "requested_by")
    return sorted(found, key=lambda proposal: (proposal.engine_name, proposal.pk))


def lapsed(batch: Batch, now: datetime) -> int:
    """Return how many were not approved, and are not bought."""
    late = Q(state=Proposal.State.WAITING, expires_at__lte=now) | Q(state=Proposal.State.REJECTED)
    return Proposal.objects.of(batch.team).filter(late, batch=batch).count()


def cost_of(proposals: Iterable[Proposal]) -> int:
    """In microcents."""
    return sum(approve.wanted(each).cost for each in proposals)


def digest(proposals: Iterable[Proposal]) -> str:
    """SHA-256 of all that an approval of these is about."""
    return hashlib.sha256("".join(each.digest for each in proposals).encode()).hexdigest()


def approve_all(proposals: list[Proposal], shown: str, *, by: Decider, now: datetime) -> list[tuple[str, str]]:
    """Approve each; return the names of those for which that was refused, and why. `shown` is the digest that the

    approver's page had.

    Raises NotApproved if these are not the ones that were shown.
    """
    if not proposals:  # the second click of one form, too
        raise approve.NotApproved("None of it waits for a second person any more. This is how it stands.")
    if shown != digest(proposals):
        raise approve.NotApproved("It is not what was shown to you. Nothing was bought.")
    lost = []
    for proposal in proposals:
        try:
            approve.approve(proposal, proposal.digest, by=by, now=now)
        except (approve.NotApproved, limits.Frozen, limits.OverLimit, Busy) as refused:
            lost.append((proposal.engine_name, str(refused)))
    return lost
