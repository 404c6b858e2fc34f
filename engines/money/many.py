"""Paid time for many engines at once: what it costs in all, and whether the limits allow that.

Each engine's time is a purchase of its own (engines.money.buy), or waits for a second person on its own.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db.models import Q

from engines.enums import State
from engines.models import Batch, Engine, Operation
from engines.money import amounts, approve, limits
from engines.money.amounts import PaidTime
from engines.money.buy import buy, cancel
from engines.money.models import Proposal
from engines.money.quote import Quote
from engines.operations.moves import Decider, Moved
from engines.operations.request import Busy, Changed
from portal.accounts.models import Team, User
from portal.audit.origin import Origin
from portal.vault.models import StoredKey

MOST = 200  # engines: each is checked and recorded on its own


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
        price = amounts.dollars(quote.price * amounts.MICROCENTS_PER_CENT)
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
        try:
            if made.needs_approval:
                approve.propose(quote, batch.reason, engine=engine, user=user, key=key, origin=origin, now=now)
                Proposal.objects.of(batch.team).filter(pk=id).update(batch=batch)
            else:
                buy(quote, batch.reason, engine=engine, user=user, key=key, origin=origin, now=now)
                Operation.objects.of(batch.team).filter(pk=id).update(batch=batch)
        except (Busy, Changed, limits.OverLimit, limits.Frozen) as refused:
            lost.append((engine, str(refused)))
    return lost


def take_back(batch: Batch, *, by: Decider, now: datetime) -> int:
    """Cancel what was not armed yet, and end what waits for a second person; return how many that were."""
    taken = 0
    # First: what a second person approves before that is an operation, and found below.
    for proposal in waiting(batch, now):
        with suppress(approve.NotApproved):
            approve.reject(proposal, by=by, now=now)
            taken += 1
    rows = Operation.objects.of(batch.team).filter(batch=batch, state__in=(State.REQUESTED, State.CHECKING))
    for operation in rows.select_related("team", "engine__connection", "extension"):
        with suppress(Moved):  # armed just now, or ended
            cancel(operation, by=by)
            taken += 1
    return taken


def waiting(batch: Batch, now: datetime) -> list[Proposal]:
    """Return what waits for a second person."""
    rows = Proposal.objects.of(batch.team).filter(batch=batch, state=Proposal.State.WAITING, expires_at__gt=now)
    return list(rows.select_related("engine", "team", "requested_by").order_by("engine__name", "pk"))


def lapsed(batch: Batch, now: datetime) -> int:
    """Return how many were not approved, and are not bought."""
    late = Q(state=Proposal.State.WAITING, expires_at__lte=now) | Q(state=Proposal.State.REJECTED)
    return Proposal.objects.of(batch.team).filter(late, batch=batch).count()


def cost_of(proposals: Iterable[Proposal]) -> int:
    """In microcents."""
    return sum(Quote.of(each.pk, each.parameters).cost for each in proposals)


def digest(proposals: Iterable[Proposal]) -> str:
    """SHA-256 of all that an approval of these is about."""
    return hashlib.sha256("".join(each.digest for each in proposals).encode()).hexdigest()


def approve_all(proposals: list[Proposal], shown: str, *, by: Decider, now: datetime) -> list[tuple[Engine, str]]:
    """Approve each; return those for which that was refused. `shown` is the digest that the approver's page had.

    Raises NotApproved if these are not the ones that were shown.
    """
    if shown != digest(proposals):
        raise approve.NotApproved("It is not what was shown to you. Nothing was bought.")
    lost = []
    for proposal in proposals:
        assert proposal.engine is not None  # a batch creates none
        try:
            approve.approve(proposal, proposal.digest, by=by, now=now)
        except (approve.NotApproved, limits.Frozen, limits.OverLimit, Busy) as refused:
            lost.append((proposal.engine, str(refused)))
    return lost
