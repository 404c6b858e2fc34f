"""What only a person decides about an operation. Each decision is one move, audited in that person's name.

All of them raise ValueError in a state that does not offer the decision, and Moved if the state has just changed.
"""

from collections.abc import Container
from datetime import datetime, timedelta

from engines.enums import MONEY, State
from engines.models import Operation
from engines.operations.moves import Decider, move
from portal.accounts.models import User

LONGER = timedelta(hours=2)


def cancel(operation: Operation, *, by: Decider, now: datetime) -> None:
    """Take it back before it is sent, or sent again: what was sent stays sent."""
    _only_in((State.WAITING, State.REQUESTED), operation)
    again = " again" if operation.attempts else ""
    move(operation, State.CANCELLED, now=now, by=by, note=f"Cancelled by {by.user} before it was sent{again}.")


def keep_waiting(operation: Operation, *, by: Decider, now: datetime) -> None:
    """Set a new deadline, LONGER from now."""
    _only_in((State.STUCK,), operation)
    note = f"{by.user} keeps waiting."
    move(operation, State.WORKING, now=now, by=by, note=note, deadline_at=now + LONGER)


class NotYours(Exception):
    """It would be sent with somebody else's key. The text says how to go on."""


def send_again(operation: Operation, *, by: Decider, now: datetime) -> None:
    """Have it sent once more, after a reading, with LONGER at least to finish.

    Raises NotYours: nobody acts with another person's key.
    """
    _only_in((State.NEEDS_ATTENTION,), operation)
    if why_not := not_yours(operation, by.user):
        raise NotYours(why_not)
    once_more(operation, now=now, note=f"{by.user} had it sent again.", by=by)


def once_more(operation: Operation, *, now: datetime, note: str, by: Decider | None = None) -> None:
    """Make it due again. Without a person it was decided when it was asked for: see `settle.insist`."""
    facts = {"next_at": now, "deadline_at": max(operation.deadline_at, now + LONGER)}
    move(operation, State.REQUESTED, now=now, by=by, note=note, **facts)


def not_yours(operation: Operation, user: User) -> str:
    if operation.requested_by_id == user.pk:
        return ""
    return f"It would be sent with the key of {operation.requested_name}. Close it, then ask anew with your own."


# Sent, and on its way. The API has no way to take a drain back, so all there is to end is the watching.
UNDER_WAY = (State.ACCEPTED, State.WORKING, State.LOST_CONTACT, State.STUCK)
# What is said of it when nobody watches it any more. An API that is never read again settles nothing: a person does.
CLOSED = {
    **dict.fromkeys(UNDER_WAY, "{} stopped watching it. The engine was not told, and goes on."),
    State.UNKNOWN: "{} stopped watching it. Whether the engine got it is not known.",
    State.NEEDS_ATTENTION: "Closed by {}.",
}


def close(operation: Operation, *, by: Decider, now: datetime) -> None:
    """End it as failed: what was sent stays sent, and nobody watches it any more."""
    _only_in(CLOSED, operation)
    move(operation, State.FAILED, now=now, by=by, note=CLOSED[State(operation.state)].format(by.user))


def _only_in(states: Container[str], operation: Operation) -> None:
    if operation.state not in states or operation.verb in MONEY:  # of money it is decided in engines.money
        raise ValueError(f"an operation that is {operation.state} does not offer this")
