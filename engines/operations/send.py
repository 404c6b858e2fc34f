"""Send an operation: claim it, make its one call, record what is known afterwards."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F

from engines import snapshots
from engines.access import client_for
from engines.api import errors
from engines.enums import MONEY, State
from engines.models import Operation
from engines.money import send as money
from engines.operations.behaviour import INSIST, PATIENCE
from engines.operations.moves import Moved, amend, move
from engines.operations.verbs import VERBS
from portal import clock
from portal.accounts.access import may
from portal.accounts.models import Membership
from portal.failpoints import failpoint
from portal.logs import on_behalf_of
from portal.vault.keys import Sealed, flag
from portal.vault.models import StoredKey

log = logging.getLogger(__name__)

# A worker that died over it is replaced as soon as this is over. An answer that takes longer is settled by a reading.
LEASE = timedelta(seconds=20)
# A worker that was held up for longer acts on old knowledge: it does not send. Well within the lease.
WINDOW = 10.0  # seconds from the claim, or the reading after it, to the request
# Between two readings that fail before anything is sent.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=2), timedelta(minutes=1)


@dataclass(frozen=True)
class Outcome:
    state: State
    note: str = ""
    wait: timedelta = timedelta(0)  # before it is sent again
    answer: dict[str, Any] = field(default_factory=dict)
    counts: bool = True  # as a send
    alone: bool = False  # waits: it says nothing of the API's other engines


HELD_UP = Outcome(State.REQUESTED, "The worker was held up and sent nothing. Trying again.")


def send(operation_id: str, now: datetime) -> None:
    """Send the operation if it is still waiting for that. Safe to call any number of times, from any worker."""
    rows = Operation.objects.select_related("team", "engine__connection", "new_at", "key__connection", "requested_by")
    operation = rows.get(pk=operation_id)
    with on_behalf_of(operation.request_id):
        if operation.verb in MONEY:
            money.send(operation, now)
        else:
            _send(operation, now)


def _send(operation: Operation, now: datetime) -> None:
    if operation.state != State.REQUESTED or not _due(operation, now):
        return
    try:
        if why_not := right_lost(operation):
            move(operation, State.CANCELLED, now=now, note=why_not)
            return
        claimed = clock.boot()
        _claim(operation, clock.now())  # not `now`: whoever found it may have had other work first, for minutes
        failpoint(f"{operation.verb}.claimed")
        outcome = _attempt(operation, claimed)
        failpoint(f"{operation.verb}.called")
        _record(operation, outcome, clock.now())
        failpoint(f"{operation.verb}.recorded")
    except Moved:
        log.info("operation %s was moved by somebody else", operation.pk)


def _record(operation: Operation, outcome: Outcome, after: datetime) -> None:
    facts = facts_of(outcome, after)
    if outcome.state == State.WAITING:  # until when it was to wait from the start
        begun = operation.released_at or operation.requested_at
        end = begun + timedelta(hours=operation.parameters[PATIENCE])
        facts |= {"next_at": end, "deadline_at": end}
    move(operation, outcome.state, now=after, note=outcome.note, **facts)
    snapshots.look_soon(operation.connection, after)


def facts_of(outcome: Outcome, after: datetime) -> dict[str, Any]:
    """Return the columns that an outcome changes; `after` is when it was known."""
    facts: dict[str, Any] = {"lease_until": None, "next_at": None, "answer": outcome.answer}
    if not outcome.counts:
        facts["attempts"] = F("attempts") - 1
    if outcome.state == State.REQUESTED:
        facts["next_at"] = after + outcome.wait
    elif outcome.state in (State.ACCEPTED, State.UNKNOWN):
        facts["sent_at"] = after  # a reading begun while the call was under way may have come before it
    return facts


def _due(operation: Operation, now: datetime) -> bool:
    return operation.next_at is not None and operation.next_at <= now  # None: it waits for its turn


def _claim(operation: Operation, now: datetime) -> None:
    """Take the operation, with a new fence: whoever held it before can no longer move it."""
    fence = operation.fence + 1
    move(
        operation,
        State.SENDING,
        now=now,
        fence=F("fence") + 1,
        lease_until=now + LEASE,
        next_at=now + LEASE,
        attempts=operation.attempts + 1,
        sent_at=now,
    )
    operation.fence = fence


def _renewed(operation: Operation) -> float:
    """Hold the operation for a lease more, as there was progress; return since when. Raises Moved if it was lost."""
    begun, until = clock.boot(), clock.now() + LEASE
    amend(operation, lease_until=until, next_at=until)
    return begun


def right_lost(operation: Operation) -> str:
    """Why its requester may not have it done any more: the right to act is checked again when it is claimed."""
    role = (
        Membership.objects.filter(user=operation.requested_by_id, user__is_active=True, team=operation.team_id)
        .values_list("role", flat=True)
        .first()
    )
    if role is None or not may(role, f"engine-{operation.verb}"):
        return f"{operation.requested_name} may no longer do this in {operation.team}."
    if operation.key is None:
        return "The key it was asked with was removed before it was sent."
    return ""


def _attempt(operation: Operation, claimed: float) -> Outcome:
    behaviour = VERBS[operation.verb]
    key = operation.key
    assert key is not None
    try:
        with client_for(key, request_id=operation.request_id) as client:
            if operation.attempts > 1 or behaviour.reads_first:  # a level effect is repeated only after a reading
                begun = clock.now()
                try:
                    dto = client.get(operation.uid)
                except errors.ApiError as error:
                    return unread(error, operation, key, begun)
                engine = snapshots.apply_one(operation.connection, dto, begun)
                if operation.attempts > 1 and (found := already(operation, engine, begun)):
                    return found
                if why_not := behaviour.objection(operation, engine):
                    return Outcome(State.FAILED, why_not)
                claimed = _renewed(operation)
            StoredKey.objects.filter(pk=key.pk).update(last_used_at=clock.now())
            if clock.boot() - claimed > WINDOW:
                return HELD_UP
            behaviour.call(client, operation)
    except Sealed as error:
        return Outcome(State.FAILED, str(error))
    except errors.ApiError as error:
        return classify(error, operation, key, behaviour.max_sends)
    return Outcome(State.ACCEPTED)


def already(operation: Operation, engine: Any, now: datetime) -> Outcome | None:
    judgement = VERBS[operation.verb].judge(operation, engine, now)
    if judgement.state in (State.WORKING, State.SUCCEEDED):
        return Outcome(judgement.state, judgement.note)
    return None


def unread(error: errors.ApiError, operation: Operation, key: StoredKey, now: datetime) -> Outcome:
    """Say how to go on where the reading before the send failed: nothing was sent, so try until the deadline."""
    if isinstance(error, errors.KeyRejected | errors.EngineGone | errors.Refused):
        return classify(error, operation, key, 0)
    answer = errors.answer_of(error)
    if now >= operation.deadline_at:
        note = f"{error} It could not be read before its deadline, so this was not sent."
        return Outcome(State.FAILED, note, answer=answer, counts=False)
    wait = min(max(FIRST_PAUSE, (now - operation.requested_at) / 2), LONGEST_PAUSE)
    asked = timedelta(seconds=error.retry_after or 0.0)
    note = f"{error} The engine is read before this is sent. Trying again."
    of_all = isinstance(error, errors.NotSent) or error.status == 429 or error.retry_after is not None
    return Outcome(State.REQUESTED, note, max(wait, asked), answer, counts=False, alone=not of_all)


def classify(error: errors.ApiError, operation: Operation, key: StoredKey, max_sends: int) -> Outcome:
    """Say what an error proves: not sent, refused, or nothing at all (RELIABILITY 3.5)."""
    answer = errors.answer_of(error)
    match error:
        case errors.NotSent() | errors.ApiBusy(status=429):
            return _again(operation, error, answer, max_sends)
        case errors.KeyRejected():
            flag(key, str(error), answer)
            return Outcome(State.REFUSED, str(error), answer=answer)
        case errors.Refused(code="engine_offline") if INSIST in operation.parameters and was_taken(operation):
            return Outcome(State.UNKNOWN, f"{error} It is sent again when the engine is back.", answer=answer)
        case errors.Refused(code="engine_offline") if PATIENCE in operation.parameters and not was_taken(operation):
            return Outcome(State.WAITING, "The engine went offline again before it was sent.", answer=answer)
        case errors.Refused(code="engine_offline") if operation.attempts in range(2, max_sends):
            # The API was away a moment ago: its engines need some seconds to come back to it.
            return _again(operation, error, answer, max_sends)
        case errors.EngineGone() | errors.Refused():
            return Outcome(State.REFUSED, str(error), answer=answer)
    return Outcome(State.UNKNOWN, f"{error} Whether the engine got the request is being checked.", answer=answer)


def was_taken(operation: Operation) -> bool:
    """Whether the engine had it once: then it is not true of it that nothing was sent."""
    return operation.moments.filter(state__in=(State.ACCEPTED, State.WORKING)).exists()


def _again(operation: Operation, error: errors.ApiError, answer: dict[str, Any], max_sends: int) -> Outcome:
    if operation.attempts >= max_sends:
        tried = "once" if operation.attempts == 1 else f"{operation.attempts} times"
        return Outcome(State.FAILED, f"{error} Tried {tried}; nothing was changed.", answer=answer)
    wait = getattr(error, "retry_after", None) or 2.0**operation.attempts
    return Outcome(State.REQUESTED, f"{error} Trying again.", timedelta(seconds=wait), answer)
