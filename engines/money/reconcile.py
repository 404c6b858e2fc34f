"""Settle a purchase without an answer, by readings made for it alone, or by a person's decision."""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from engines import wire
from engines.api import errors
from engines.enums import MONEY, State, Verb
from engines.models import Moment, Operation
from engines.money import amounts, limits, machine
from engines.money.models import Evidence, Extension, Outcome
from engines.money.reading import books, reading
from engines.money.record import End, record
from engines.operations.moves import Decider, Moved, amend, announce, audit, move
from engines.wire import moment
from portal import clock
from portal.accounts.models import User
from portal.logs import on_behalf_of

log = logging.getLogger(__name__)

# At least as long as an answer, TCP's patience and the slowest provider behind the API together.
SETTLE = timedelta(minutes=15)
APART = timedelta(minutes=2)
ENOUGH = 3  # unchanged readings
SECONDS = (0, 5, 15, 30, 60, 120, 300, 600, 900)
EVERY = timedelta(minutes=15)  # after those
LOOKING = timedelta(seconds=30)
MOST_LEASES = 5


def next_look(since: datetime, now: datetime) -> datetime:
    """Return when to read next, for an operation that is unknown, or on its way, since then."""
    for seconds in SECONDS:
        if (at := since + timedelta(seconds=seconds)) > now:
            return at
    return now + EVERY


def look(operation_id: str, now: datetime) -> None:
    """Read the engine of an unknown purchase, if that is due, and settle it if the reading proves something."""
    operation = _rows().get(pk=operation_id)
    if operation.state not in (State.UNKNOWN, State.WORKING) or operation.verb not in MONEY:
        return
    if operation.next_at is None or operation.next_at > now:
        return
    try:
        amend(operation, next_at=now + LOOKING)
        try:
            with on_behalf_of(operation.request_id):
                begun, dto = clock.now(), reading(operation)
            if operation.verb == Verb.CREATE:
                _settle_creation(operation, dto, begun)
            else:
                settle(operation, dto, clock.now())
        except errors.ApiError as error:
            log.warning("purchase %s cannot be checked: %s", operation.pk, error)
            amend(operation, next_at=next_look(operation.moved_at, clock.now()))
    except Moved:
        log.info("purchase %s was moved by somebody else", operation_id)


def _rows() -> QuerySet[Operation]:
    return Operation.objects.select_related(
        "team", "engine__connection", "new_at", "key__connection", "requested_by", "extension"
    )


def _settle_creation(operation: Operation, dto: wire.Engine | None, now: datetime) -> None:
    """Say what a reading means for a machine that was, or may have been, ordered. Raises ApiError: nothing is done."""
    if operation.state == State.WORKING:
        if end := machine.settle(operation, dto, lambda: books(operation), now):
            return record(operation, end)
        progress = machine.progress(dto or {}, bool(operation.progress.get("answered")))
        changed = {"progress": progress} if progress != operation.progress else {}
        return amend(operation, next_at=now + machine.EVERY, **changed)
    if dto is not None:
        return record(operation, machine.found(operation, dto, now))
    if books(operation):
        return record(
            operation, _ambiguous("The API’s books show that it was charged, but it lists no such engine.", None)
        )
    return _unchanged(operation, now)


def settle(operation: Operation, dto: wire.Engine | None, now: datetime) -> None:
    """Say what a reading means for an unknown extension (the table is in docs/billing.md)."""
    bought = operation.extension
    paid = amounts.read((dto or {}).get("instance"))
    if paid is None or (dto or {}).get("status") in amounts.OVER or bought.before is None:
        note = "The engine or its paid time is gone, so no reading can show whether it was charged."
        record(operation, _ambiguous(note, None))
    elif amounts.near(paid.threshold, amounts.after(bought.before, bought.hours)):
        note = f"A reading shows it paid until {paid.threshold:%Y-%m-%d %H:%M} UTC, though the answer was lost."
        facts = {"evidence": Evidence.READING, "after": paid.threshold}
        record(operation, End(State.SUCCEEDED, Outcome.OBSERVED, note, **facts))  # type: ignore[arg-type]
    elif paid.threshold == bought.before:
        _unchanged(operation, now)
    else:
        note = (
            f"Its paid time ended at {bought.before:%Y-%m-%d %H:%M} UTC before, and now at "
            f"{paid.threshold:%Y-%m-%d %H:%M} UTC: neither unchanged nor as asked."
        )
        record(operation, _ambiguous(note, paid.threshold))


def _ambiguous(note: str, after: datetime | None) -> End:
    note = f"{note} A person must find out, in the API’s own ledger, and say what happened."
    return End(State.NEEDS_ATTENTION, Outcome.AMBIGUOUS, note, after=after)


def _unchanged(operation: Operation, now: datetime) -> None:
    bought = operation.extension
    last = moment(bought.unchanged[-1]) if bought.unchanged else None
    if last is None or now - last >= APART:
        bought.unchanged = [*bought.unchanged, now.isoformat()]
        Extension.objects.filter(pk=bought.pk).update(unchanged=bought.unchanged)
    settled = bought.armed_at is not None and now - bought.armed_at >= SETTLE
    if settled and len(bought.unchanged) >= ENOUGH:
        minutes = SETTLE // timedelta(minutes=1)
        note = f"{len(bought.unchanged)} readings over {minutes} minutes show no effect: it was not charged."
        record(operation, End(State.FAILED, Outcome.NOT_APPLIED, note))
    else:
        amend(operation, next_at=next_look(operation.moved_at, now))


class OwnWord(Exception):
    """Who asked for it cannot say what became of it. The text says who can."""


def own_word(operation: Operation, user: User) -> str:
    """Say why somebody else must settle it; "" if this person may."""
    bought = operation.extension
    # One of many is below the limit alone; that a second person was needed is told by their name.
    if not bought.approved_name and not limits.needs_approval(operation.team, bought.cost):
        return ""
    asker = operation.requested_by
    if asker == user:
        return "It is your own purchase, and one for two people: somebody else must say what became of it."
    for who in (user, asker):
        if who and who.unproven_since:  # both accounts may be one person's
            return (
                f"It is for two people to settle, and nobody has vouched that the address of {who} is theirs: see Team."
            )
    return ""


def is_to_settle(operation: Operation) -> bool:
    """Say whether it waits for a person's word: on whether it was charged, or on what differs from what was asked."""
    if operation.verb not in MONEY:
        return False
    return operation.state == State.NEEDS_ATTENTION or operation.extension.outcome == Outcome.DISCREPANCY


def resolve(operation: Operation, *, applied: bool, by: Decider) -> None:
    """Settle an ambiguous extension by a person's word, which is the evidence from then on.

    Of one that was charged and has another end than was asked, it is the last word: what is booked stays.
    Raises OwnWord, ValueError if it is neither, and Moved if somebody was faster.
    """
    if not is_to_settle(operation):
        raise ValueError(f"an operation that is {operation.state} does not offer this")
    if why_not := own_word(operation, by.user):
        raise OwnWord(why_not)
    if operation.state != State.NEEDS_ATTENTION:
        if not applied:
            raise ValueError("it is booked on the API's own word")
        _acknowledge(operation, by)
        return
    audit(operation, "cloudtime.resolved", by=by, note="charged" if applied else "not charged")
    if applied:
        note = f"{by.user} found that it was charged."
        facts = {"evidence": Evidence.PERSON, "after": operation.extension.after}
        record(operation, End(State.SUCCEEDED, Outcome.RESOLVED_APPLIED, note, **facts), by=by)  # type: ignore[arg-type]
    else:
        note = f"{by.user} found that it was not charged."
        record(operation, End(State.FAILED, Outcome.RESOLVED_NOT_APPLIED, note), by=by)


@transaction.atomic
def _acknowledge(operation: Operation, by: Decider) -> None:
    rows = Extension.objects.filter(pk=operation.pk, outcome=Outcome.DISCREPANCY)
    if rows.update(outcome=Outcome.DISCREPANCY_SETTLED) != 1:
        raise Moved(operation.pk)
    text = f"{by.user} settled the difference."
    Moment.objects.create(operation=operation, at=clock.now(), state=operation.state, text=text, reason=by.reason)
    audit(operation, "cloudtime.resolved", by=by, note="difference")
    announce(operation)


def requeue(operation_id: str, now: datetime) -> None:
    """A check that outlived its lease: nothing was sent, so another worker may begin anew, but not for ever."""
    operation = _rows().get(pk=operation_id)
    if operation.state != State.CHECKING or (operation.lease_until and operation.lease_until > now):
        return
    try:
        if operation.fence >= MOST_LEASES:
            note = f"{operation.fence} workers in a row disappeared over it. Nothing was sent."
            record(operation, End(State.FAILED, Outcome.NOT_SENT, note))
        else:
            note = "The worker that was checking this disappeared. Nothing was sent yet."
            move(operation, State.REQUESTED, now=now, note=note, lease_until=None, next_at=now)
    except Moved:
        return
