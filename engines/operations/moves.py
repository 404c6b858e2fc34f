"""How an operation's state moves: one table, and the one function that does it."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models, transaction

from engines.enums import OPEN, State, Verb
from engines.models import Moment, Operation
from portal.accounts.models import User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.live.bus import publish
from portal.logs import on_behalf_of

log = logging.getLogger(__name__)

# What may end any operation that was sent: its effect, the engine's word that it failed, or a stronger operation.
WATCHED_ON = frozenset({State.SUCCEEDED, State.FAILED, State.SUPERSEDED})
MOVES: dict[State, frozenset[State]] = {
    State.REQUESTED: frozenset({State.SENDING, State.CANCELLED, State.SUPERSEDED}),
    State.CHECKING: frozenset(
        {
            State.REQUESTED,
            State.SENDING,
            State.SUCCEEDED,
            State.NEEDS_RECONFIRM,
            State.REFUSED,
            State.FAILED,
            State.CANCELLED,
        }
    ),
    State.SENDING: frozenset(
        {
            State.ACCEPTED,
            State.WORKING,
            State.SUCCEEDED,
            State.UNKNOWN,
            State.REQUESTED,
            State.REFUSED,
            State.FAILED,
        }
    ),
    State.ACCEPTED: WATCHED_ON | {State.WORKING, State.LOST_CONTACT, State.STUCK, State.NEEDS_ATTENTION},
    State.WORKING: WATCHED_ON | {State.LOST_CONTACT, State.STUCK, State.NEEDS_ATTENTION},
    State.UNKNOWN: WATCHED_ON
    | {State.WORKING, State.REQUESTED, State.LOST_CONTACT, State.STUCK, State.NEEDS_ATTENTION},
    State.LOST_CONTACT: WATCHED_ON | {State.WORKING, State.STUCK, State.NEEDS_ATTENTION},
    State.STUCK: WATCHED_ON | {State.WORKING, State.NEEDS_ATTENTION},
    State.NEEDS_ATTENTION: WATCHED_ON | {State.WORKING, State.REQUESTED},
    State.SUCCEEDED: frozenset(),
    State.NEEDS_RECONFIRM: frozenset(),
    State.REFUSED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.SUPERSEDED: frozenset(),
}

# Money moves by narrower rules: it is checked under the engine's lock first, and what was perhaps sent is never
# sent again by itself. Only after a 429, and a reading that shows nothing happened, does SENDING lead back.
EXTEND_MOVES = MOVES | {
    State.REQUESTED: frozenset({State.CHECKING, State.CANCELLED}),
    State.SENDING: frozenset(
        {State.SUCCEEDED, State.REFUSED, State.FAILED, State.UNKNOWN, State.NEEDS_ATTENTION, State.REQUESTED}
    ),
    State.UNKNOWN: frozenset({State.SUCCEEDED, State.FAILED, State.NEEDS_ATTENTION}),
    State.NEEDS_ATTENTION: frozenset({State.SUCCEEDED, State.FAILED}),
    **{state: frozenset() for state in (State.ACCEPTED, State.WORKING, State.LOST_CONTACT, State.STUCK)},
}

# The moves that an auditor wants to see; the others are on the operation's own timeline.
AUDITED = {
    State.SUCCEEDED: "ok",
    State.NEEDS_RECONFIRM: "refused",
    State.REFUSED: "refused",
    State.FAILED: "failed",
    State.CANCELLED: "ok",
    State.SUPERSEDED: "ok",
    State.UNKNOWN: "unknown",
    State.LOST_CONTACT: "unknown",
    State.STUCK: "unknown",
    State.NEEDS_ATTENTION: "unknown",
}


class Moved(Exception):
    """Somebody else moved the operation since it was read: what we know of it is old, so do nothing."""


@dataclass(frozen=True)
class Decider:
    """The person whose decision a move is, and their request."""

    user: User
    origin: Origin


@transaction.atomic
def move(
    operation: Operation, to: State, *, now: datetime, note: str = "", by: Decider | None = None, **facts: Any
) -> None:
    """Move to `to`, in the database and in memory, with its timeline line and audit entry: all or nothing.

    `by` is the person who decided it, None where an answer or a reading did. `facts` are further columns.
    Raises ValueError on a move that MOVES does not allow, and Moved if the row is no longer in the state and fence
    that we read.
    """
    table = EXTEND_MOVES if operation.verb == Verb.EXTEND else MOVES
    if to not in table[State(operation.state)]:
        raise ValueError(f"{operation.state} → {to} is not a move")
    before = operation.state
    facts |= {"state": to, "note": note[:300], "moved_at": now}
    if to not in OPEN:
        facts |= {"finished_at": now, "next_at": None, "lease_until": None}
    _swap(operation, facts)
    Moment.objects.create(operation=operation, at=now, state=to, text=note[:300])
    if by or to in AUDITED:
        outcome = "ok" if by else AUDITED[to]
        audit(operation, f"operation.{to}", by=by, outcome=outcome, note=note, before=before)
    announce(operation)
    with on_behalf_of(operation.request_id):
        log.info("%s of %s: %s → %s (operation %s)", operation.verb, operation.engine.uid, before, to, operation.pk)


def amend(operation: Operation, **facts: Any) -> None:
    """Change columns beside the state (progress, next look), if nobody moved the operation meanwhile."""
    _swap(operation, facts)
    if {"progress", "deadline_at", "note"} & facts.keys():
        announce(operation)


def audit(
    operation: Operation, action: str, *, by: Decider | None, outcome: str = "ok", note: str = "", before: str = ""
) -> None:
    """Write the audit entry: in the name of who decided, else of the system, with the request it goes back to."""
    asked = Origin(request_id=operation.request_id)
    record(
        team=operation.team,
        actor=by.user if by else None,
        action=action,
        target=operation.engine,
        origin=by.origin if by else asked,
        reason=operation.reason,
        outcome=outcome,
        before={"state": before} if before else {},
        after={"state": operation.state},
        operation_id=str(operation.pk),
        verb=operation.verb,
        asked_by=operation.requested_name,
        used=operation.key_label,
        note=note,
    )


def audit_money(
    operation: Operation, *, by: Decider | None, before: dict[str, Any], after: dict[str, Any], **detail: Any
) -> None:
    """Write what was charged into the audit log, in numbers."""
    record(
        team=operation.team,
        actor=by.user if by else None,
        action="cloudtime.charged",
        target=operation.engine,
        origin=by.origin if by else Origin(request_id=operation.request_id),
        reason=operation.reason,
        before=before,
        after=after,
        operation_id=str(operation.pk),
        asked_by=operation.requested_name,
        used=operation.key_label,
        **detail,
    )


def announce(operation: Operation) -> None:
    """Tell open pages, after the commit."""
    publish(
        operation.team_id,
        "operations",
        f"operation:{operation.pk}",
        "engines",
        f"engine:{operation.engine.uid}",
        *(["cloudtime"] if operation.verb == Verb.EXTEND else []),
    )


def _swap(operation: Operation, facts: dict[str, Any]) -> None:
    # Compare-and-swap: of two workers, exactly one sees a row change. Works alike on SQLite and PostgreSQL.
    rows = Operation.objects.filter(pk=operation.pk, state=operation.state, fence=operation.fence)
    if rows.update(**facts) != 1:
        raise Moved(operation.pk)
    for name, value in facts.items():
        if not isinstance(value, models.F):
            setattr(operation, name, value)
