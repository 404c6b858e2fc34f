"""What a reading of an engine means for the operation that is open on it."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from engines.enums import MONEY, OPEN, State
from engines.models import Engine, Operation
from engines.operations.behaviour import DEADLINE, INSIST, Judgement
from engines.operations.decide import once_more
from engines.operations.moves import MOVES, Moved, amend, move
from engines.operations.verbs import VERBS
from portal.wake import wake_after_commit

log = logging.getLogger(__name__)

RESEND = timedelta(seconds=2)
FORGOTTEN = "The engine runs and takes tasks again: it forgot this, most likely because its process was restarted."

# States that a reading may settle. SENDING belongs to whoever holds the lease; the rest wait for a person.
WATCHED = frozenset(
    {
        State.WAITING,
        State.ACCEPTED,
        State.WORKING,
        State.UNKNOWN,
        State.LOST_CONTACT,
        State.STUCK,
        State.NEEDS_ATTENTION,
    }
)


def settle(operation: Operation, engine: Engine, *, read_at: datetime, now: datetime) -> None:
    """Move or amend `operation` by what `engine` shows. `read_at` is when the reading was begun.

    A reading begun before the request was sent proves nothing and is ignored. Money is settled by its own readings, and
    what is queued behind another operation by that one's end.
    """
    if operation.verb in MONEY or operation.is_queued:
        return
    if operation.state not in WATCHED or (operation.sent_at and read_at <= operation.sent_at):
        return
    behaviour, waited = VERBS[operation.verb], operation.state == State.WAITING
    judgement = behaviour.back(engine) if waited else behaviour.judge(operation, engine, now)
    to = judgement.state
    if to in OPEN - {State.NEEDS_ATTENTION} and _overdue(operation, now):
        to = State.STUCK
    facts: dict[str, Any] = {"progress": judgement.progress} if judgement.progress != operation.progress else {}
    try:
        if insists(operation, judgement):
            insist(operation, now=now, **facts)
        elif to != operation.state and to in MOVES[State(operation.state)]:
            if waited and to == State.REQUESTED:
                # At once: before new tasks run on it, as far as possible.
                hours = operation.parameters[DEADLINE]
                facts |= {"next_at": now, "deadline_at": now + timedelta(hours=hours)}
            elif to == State.REQUESTED:
                facts["next_at"] = now + RESEND
            move(operation, to, now=now, note=_note(operation, to, judgement.note), **facts)
            if waited and to == State.REQUESTED:
                _wake(operation)
        elif facts:
            amend(operation, **facts)
    except Moved:
        log.info("operation %s was moved by somebody else", operation.pk)


def insists(operation: Operation, judgement: Judgement) -> bool:
    """Whether it is to be sent again by itself: as often as any one decision of a person is, and then no more."""
    wanted = judgement.forgot and bool(operation.parameters.get(INSIST))
    return wanted and operation.attempts < VERBS[operation.verb].max_sends


@transaction.atomic
def insist(operation: Operation, *, now: datetime, **facts: Any) -> None:
    """Send it again, as the click of a person would. Raises Moved."""
    again = f"It is sent again by itself, as {operation.requested_name} wanted."
    if operation.state != State.NEEDS_ATTENTION:
        move(operation, State.NEEDS_ATTENTION, now=now, note=f"{FORGOTTEN} {again}", **facts)
    once_more(operation, now=now, note=again)


def _wake(operation: Operation) -> None:
    # The one allowed cycle: operations name their task, the task calls operations.
    from engines.tasks import wake

    wake_after_commit(wake, str(operation.pk))


def _overdue(operation: Operation, now: datetime) -> bool:
    waiting = (State.ACCEPTED, State.WORKING, State.UNKNOWN, State.LOST_CONTACT, State.STUCK)
    return operation.state in waiting and now > operation.deadline_at


def _note(operation: Operation, to: State, note: str) -> str:
    if to != State.STUCK:
        return note
    by = f"{operation.deadline_at:%d %b %H:%M} UTC"
    return f"Not finished by {by}. Nothing is cut: keep waiting, or look at its tasks. {note}"
