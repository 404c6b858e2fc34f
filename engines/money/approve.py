"""A second person's word on what costs more than one may spend alone."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from engines.models import Engine, Moment, Operation
from engines.money import amounts, limits
from engines.money.buy import buy, rent
from engines.money.models import Proposal
from engines.money.order import Order
from engines.money.quote import Quote
from engines.operations.moves import Decider
from engines.operations.request import Changed
from portal.accounts.access import may
from portal.accounts.models import Membership, Team, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.live.bus import publish
from portal.vault.models import StoredKey

LIFETIME = timedelta(minutes=30)


class NotApproved(Exception):
    """It cannot be approved, or not by this person. `str()` says why; nothing was bought."""


@transaction.atomic
def propose(
    quote: Quote | Order,
    reason: str,
    *,
    engine: Engine | None,
    user: User,
    key: StoredKey,
    origin: Origin,
    now: datetime,
) -> Proposal:
    """Record what waits for approval: hours of that engine, or a machine. Sent twice, it returns the same proposal.

    Raises limits.Frozen and limits.OverLimit: what the limits forbid, no approval allows. Raises request.Changed.
    """
    team = Team.objects.select_for_update(no_key=True).get(pk=key.team_id)
    if earlier := Proposal.objects.of(team).filter(pk=quote.id).first():
        if (earlier.requested_by_id, earlier.reason, earlier.parameters) != (user.pk, reason, quote.parameters()):
            raise Changed
        return earlier
    limits.check(team, user.pk, engine, quote.hours, quote.cost, now)
    proposal = Proposal(
        id=quote.id,
        team=team,
        engine=engine,
        requested_by=user,
        role=origin.role,
        request_id=origin.request_id,
        address=origin.address,
        key=key,
        reason=reason,
        parameters=quote.parameters(),
        at=now,
        expires_at=now + LIFETIME,
    )
    proposal.digest = digest(proposal)
    proposal.save(force_insert=True)
    _audit(proposal, "cloudtime.proposed", Decider(user, origin), reason)
    return proposal


def digest(proposal: Proposal) -> str:
    """SHA-256 of all that an approval is about."""
    about = [str(proposal.pk), proposal.team_id, proposal.engine_id, proposal.requested_by_id, str(proposal.key_id)]
    text = json.dumps([*about, proposal.reason, proposal.parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@transaction.atomic
def approve(proposal: Proposal, shown: str, *, by: Decider, now: datetime) -> Operation:
    """Buy what was proposed, in the name of who asked. `shown` is the digest that the approver's page had.

    Raises NotApproved, limits.Frozen, limits.OverLimit, request.Busy. Approved twice, it is one operation.
    """
    Team.objects.select_for_update(no_key=True).get(pk=proposal.team_id)
    proposal = Proposal.objects.select_related("engine__connection", "requested_by", "key").get(pk=proposal.pk)
    if proposal.state == Proposal.State.APPROVED:
        return Operation.objects.of(proposal.team).get(pk=proposal.pk)
    if refused := why_not(proposal, shown, by.user, now):
        raise NotApproved(refused)
    _decide(proposal, Proposal.State.APPROVED, by, now)
    _audit(proposal, "cloudtime.approved", by, by.reason)
    operation = _bought(proposal, by, now)
    text = f"Approved by {by.user}."
    Moment.objects.create(operation=operation, at=now, state=operation.state, text=text, reason=by.reason)
    return operation


def _bought(proposal: Proposal, by: Decider, now: datetime) -> Operation:
    assert proposal.key is not None
    origin = Origin(request_id=proposal.request_id, address=proposal.address, role=proposal.role)
    asked: dict[str, Any] = {
        "user": proposal.requested_by,
        "key": proposal.key,
        "origin": origin,
        "now": now,
        "approved_name": str(by.user)[:150],
    }
    quote = wanted(proposal)
    if isinstance(quote, Order):
        operation = rent(quote, proposal.reason, **asked)
    else:
        assert proposal.engine is not None
        operation = buy(quote, proposal.reason, engine=proposal.engine, **asked)
    if proposal.batch_id:
        Operation.objects.of(proposal.team).filter(pk=operation.pk).update(batch=proposal.batch_id)
    return operation


def is_for_two(quote: Quote | Order, team: Team) -> bool:
    """Say whether a second person is asked. What was asked before goes the same way again, whatever the limits are."""
    if Operation.objects.of(team).filter(pk=quote.id).exists():
        return False
    return Proposal.objects.of(team).filter(pk=quote.id).exists() or limits.needs_approval(team, quote.cost)


def wanted(proposal: Proposal) -> Quote | Order:
    """Return what was proposed."""
    kind = Quote if proposal.engine_id else Order
    return kind.of(proposal.pk, proposal.parameters)


def over(proposal: Proposal, now: datetime) -> str:
    """Say how it ended without a purchase, or that it is bought; "" while it waits."""
    if proposal.state != Proposal.State.WAITING:
        return f"It is {proposal.get_state_display().lower()}."
    if now > proposal.expires_at:
        return "It was not approved within 30 minutes. Ask again."
    return ""


def why_not(proposal: Proposal, shown: str, approver: User, now: datetime) -> str:
    """Say why this person cannot approve what was `shown`; "" if they can."""
    if ended := over(proposal, now):
        return ended
    if approver.pk == proposal.requested_by_id:
        return "Who asks cannot approve: somebody else must."
    if approver.unproven_since:  # it may be the account of who asks
        return "Nobody has vouched that your address is yours, so you cannot be the second person: see Team."
    if proposal.requested_by.unproven_since:  # it may be the approver's own
        return f"Nobody has vouched that the address of {proposal.requested_by} is theirs: see Team."
    if not shown or not proposal.digest == shown == digest(proposal):
        return "It is not what was shown to you. Nothing was bought."
    if proposal.key is None:
        return f"The key of {proposal.requested_by} was removed meanwhile."
    asked = "engine-extend" if proposal.engine_id else "engine-create"
    for who, right in ((proposal.requested_by, asked), (approver, "cloud-time-approve")):
        rows = Membership.objects.filter(user=who, user__is_active=True, team=proposal.team_id)
        role = rows.values_list("role", flat=True).first()
        if role is None or not may(role, right):
            return f"{who} may no longer buy {'cloud time' if proposal.engine_id else 'machines'} in this team."
    if proposal.engine is None:
        return ""  # its price is compared when it is sent
    paid, quote = amounts.paid_time(proposal.engine), Quote.of(proposal.pk, proposal.parameters)
    if paid is None or (paid.price, paid.threshold) != (quote.price, quote.threshold):
        return "Price or end of the paid time have changed since it was asked. Ask again."
    return ""


@transaction.atomic
def reject(proposal: Proposal, *, by: Decider, now: datetime) -> None:
    """End it without a purchase; who asked may do so too. Raises NotApproved if it is decided already."""
    if proposal.state != Proposal.State.WAITING:
        raise NotApproved(f"It is {proposal.get_state_display().lower()}.")
    _decide(proposal, Proposal.State.REJECTED, by, now)
    _audit(proposal, "cloudtime.rejected", by, by.reason)


def _decide(proposal: Proposal, to: Proposal.State, by: Decider, now: datetime) -> None:
    rows = Proposal.objects.filter(pk=proposal.pk, state=Proposal.State.WAITING)
    if rows.update(state=to, decided_by=by.user, decided_at=now, decided_reason=by.reason) != 1:
        raise NotApproved("Somebody else has just decided it.")
    publish(proposal.team_id, "cloudtime")


def _audit(proposal: Proposal, action: str, by: Decider, reason: str) -> None:
    quote = wanted(proposal)
    record(
        team=proposal.team,
        actor=by.user,
        action=action,
        target=proposal.engine or proposal.team,
        origin=by.origin,
        reason=reason,
        operation_id=str(proposal.pk),
        asked_by=str(proposal.requested_by),
        hours=str(quote.hours),
        cost=amounts.dollars(quote.cost),
        digest=proposal.digest,
    )
