"""What only a person decides about an operation. Each decision is one move, audited in that person's name.

All of them raise ValueError in a state that does not offer the decision, and Moved if the state has just changed.
"""

from datetime import datetime, timedelta

from engines.enums import State
from engines.models import Operation
from engines.operations.moves import Decider, move

LONGER = timedelta(hours=2)


def cancel(operation: Operation, *, by: Decider, now: datetime) -> None:
    """Take it back before it is sent, or sent again: what was sent stays sent."""
    _only_in(State.REQUESTED, operation)
    again = " again" if operation.attempts else ""
    move(operation, State.CANCELLED, now=now, by=by, note=f"Cancelled by {by.user} before it was sent{again}.")


def keep_waiting(operation: Operation, *, by: Decider, now: datetime) -> None:
    """Set a new deadline, LONGER from now."""
    _only_in(State.STUCK, operation)
    note = f"{by.user} keeps waiting."
    move(operation, State.WORKING, now=now, by=by, note=note, deadline_at=now + LONGER)


def send_again(operation: Operation, *, by: Decider, now: datetime) -> None:
    """Have it sent once more, after a reading."""
    _only_in(State.NEEDS_ATTENTION, operation)
    move(operation, State.REQUESTED, now=now, by=by, note=f"{by.user} had it sent again.", next_at=now)


def close(operation: Operation, *, by: Decider, now: datetime) -> None:
    """End it as failed."""
    _only_in(State.NEEDS_ATTENTION, operation)
    move(operation, State.FAILED, now=now, by=by, note=f"Closed by {by.user}.")


def _only_in(state: State, operation: Operation) -> None:
    if operation.state != state:
        raise ValueError(f"an operation that is {operation.state} does not offer this")
