"""How an operation's state moves: one table, and the one function that does it."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models.expressions import Combinable

from engines.enums import MONEY, OPEN, State, Verb
from engines.models import QUEUED, Moment, Operation
from portal.accounts.models import User
from portal.audit.log import Note, record, record_all
from portal.audit.origin import Origin
from portal.live.bus import publish
from portal.logs import on_behalf_of
from portal.wake import wake_after_commit

log = logging.getLogger(__name__)

AT_ONCE = 500  # operations that are moved with one statement

# What may end any operation that was sent: its effect, the engine's word that it failed, or a stronger operation.
WATCHED_ON = frozenset({State.SUCCEEDED, State.FAILED, State.SUPERSEDED})
MOVES: dict[State, frozenset[State]] = {
    # What it was queued behind has ended: now it waits for the engine.
    State.WAITING: frozenset({State.WAITING, State.REQUESTED, State.CANCELLED, State.SUPERSEDED}),
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
            State.WAITING,
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
    State.REQUESTED: frozenset({State.CHECKING, State.CANCELLED, State.NEEDS_RECONFIRM}),
    State.SENDING: frozenset(
        {State.SUCCEEDED, State.REFUSED, State.FAILED, State.UNKNOWN, State.NEEDS_ATTENTION, State.REQUESTED}
    ),
    State.UNKNOWN: frozenset({State.SUCCEEDED, State.FAILED, State.NEEDS_ATTENTION}),
    State.NEEDS_ATTENTION: frozenset({State.SUCCEEDED, State.FAILED}),
    **{state: frozenset() for state in (State.WAITING, State.ACCEPTED, State.WORKING, State.LOST_CONTACT, State.STUCK)},
}

# A machine takes minutes to come, once it is ordered. The order itself moves as every purchase does.
CREATE_MOVES = EXTEND_MOVES | {
    State.CHECKING: EXTEND_MOVES[State.CHECKING] | {State.WORKING},  # a 429, and yet it is there
    State.SENDING: EXTEND_MOVES[State.SENDING] | {State.WORKING},
    State.UNKNOWN: EXTEND_MOVES[State.UNKNOWN] | {State.WORKING},
    State.WORKING: frozenset({State.SUCCEEDED, State.FAILED, State.NEEDS_ATTENTION}),
}
TABLES: dict[str, dict[State, frozenset[State]]] = {Verb.EXTEND: EXTEND_MOVES, Verb.CREATE: CREATE_MOVES}

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
    """The person whose decision a move is, their request, and why they decided so."""

    user: User
    origin: Origin
    reason: str = ""  # "" where the operation itself says why


@transaction.atomic
def move(
    operation: Operation, to: State, *, now: datetime, note: str = "", by: Decider | None = None, **facts: Any
) -> None:
    """Move to `to`, in the database and in memory, with its timeline line and audit entry: all or nothing.

    `by` is the person who decided it, None where an answer or a reading did. `facts` are further columns.
    Raises ValueError on a move that MOVES does not allow, and Moved if the row is no longer in the state and fence
    that we read.
    """
    before = operation.state
    facts = _facts(operation, to, now, note, facts)
    _swap(operation, facts)
    Moment.objects.create(operation=operation, at=now, state=to, text=note[:300], reason=by.reason if by else "")
    if by or to in AUDITED:
        outcome = "ok" if by else AUDITED[to]
        audit(operation, f"operation.{to}", by=by, outcome=outcome, note=note, before=before)
    announce(operation)
    _wake_queued([operation], to)
    _say(operation, before)


@transaction.atomic
def move_all(
    operations: Iterable[Operation],
    to: State,
    *,
    now: datetime,
    note: str = "",
    by: Decider | None = None,
    **facts: Any,
) -> list[Operation]:
    """Move those of one team's operations that are still in the state and fence that we read; return them.

    As `move` for each, and in a few statements for each AT_ONCE of them.
    """
    moved: list[Operation] = []
    still = hold(waiting := list(operations))
    for start in range(0, len(waiting), AT_ONCE):
        some = [each for each in waiting[start : start + AT_ONCE] if (each.pk, each.state, each.fence) in still]
        moved += _move_some(some, to, now, note, by, facts)
    if moved:
        money = ["cloudtime"] if any(operation.verb in MONEY for operation in moved) else []
        publish(moved[0].team_id, "operations", "engines", *money)
    return moved


def hold(operations: Iterable[Operation]) -> set[tuple[uuid.UUID, str, int]]:
    """Lock the rows until the transaction ends (on SQLite all are); return their keys, states and fences as they are.

    All rows of a transaction are locked before the log's end is, in one order: two transactions never wait in a ring.
    Nor with one that names such a row, as what is queued behind it does: their keys are not locked.
    """
    keys, found = sorted(operation.pk for operation in operations), set()
    for start in range(0, len(keys), AT_ONCE):
        rows = (
            Operation.objects.select_for_update(no_key=True).filter(pk__in=keys[start : start + AT_ONCE]).order_by("pk")
        )
        found |= set(rows.values_list("pk", "state", "fence"))
    return found


def _move_some(
    found: list[Operation], to: State, now: datetime, note: str, by: Decider | None, facts: dict[str, Any]
) -> list[Operation]:
    befores = [each.state for each in found]
    by_state: dict[str, list[Operation]] = defaultdict(list)
    for operation in found:
        by_state[operation.state].append(operation)
    for state, some in by_state.items():
        every = _facts(some[0], to, now, note, facts)
        rows = Operation.objects.filter(pk__in=[each.pk for each in some], state=state)
        if rows.update(**every) != len(some):
            raise Moved(some[0].pk)
        for operation in some:
            _remember(operation, every)
    said: dict[str, Any] = {"at": now, "state": to, "text": note[:300], "reason": by.reason if by else ""}
    Moment.objects.bulk_create(Moment(operation=each, **said) for each in found)
    if found and (by or to in AUDITED):
        outcome = "ok" if by else AUDITED[to]
        notes = [
            entry(each, f"operation.{to}", by=by, outcome=outcome, note=note, before=before)
            for each, before in zip(found, befores, strict=True)
        ]
        record_all(notes, team=found[0].team, actor=by.user if by else None)
    _wake_queued(found, to)
    for operation, before in zip(found, befores, strict=True):
        _say(operation, before)
    return found


def _wake_queued(moved: list[Operation], to: State) -> None:
    """Have what is queued behind these looked at after the commit, rather than at the next sweep."""
    if to in OPEN:
        return
    # The one allowed cycle: operations name their task, the task calls operations.
    from engines.tasks import release

    queued = Operation.objects.filter(QUEUED, behind__in=moved, state=State.WAITING)
    for pk in queued.values_list("pk", flat=True):
        wake_after_commit(release, str(pk))


def _facts(operation: Operation, to: State, now: datetime, note: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that a move changes. Raises ValueError if there is no such move."""
    if to not in TABLES.get(operation.verb, MOVES)[State(operation.state)]:
        raise ValueError(f"{operation.state} → {to} is not a move")
    facts = facts | {"state": to, "note": note[:300], "moved_at": now}
    if to not in OPEN:
        facts |= {"finished_at": now, "next_at": None, "lease_until": None}
    return facts


def _say(operation: Operation, before: str) -> None:
    uid, to = operation.uid or operation.engine_name, State(operation.state)
    with on_behalf_of(operation.request_id):
        log.info("%s of %s: %s → %s (operation %s)", operation.verb, uid, before, to, operation.pk)


def amend(operation: Operation, **facts: Any) -> None:
    """Change columns beside the state (progress, next look), if nobody moved the operation meanwhile."""
    _swap(operation, facts)
    if {"progress", "deadline_at", "note"} & facts.keys():
        announce(operation)


def audit(
    operation: Operation, action: str, *, by: Decider | None, outcome: str = "ok", note: str = "", before: str = ""
) -> None:
    """Write the audit entry: in the name of who decided, else of the system, with the request it goes back to."""
    said = entry(operation, action, by=by, outcome=outcome, note=note, before=before)
    record_all([said], team=operation.team, actor=by.user if by else None)


def entry(
    operation: Operation, action: str, *, by: Decider | None, outcome: str = "ok", note: str = "", before: str = ""
) -> Note:
    """Return what the log says of it: see `audit`."""
    return Note(
        action=action,
        target=operation.engine or operation.connection,
        origin=by.origin if by else Origin(request_id=operation.request_id),
        reason=by.reason if by and by.reason else operation.reason,
        outcome=outcome,
        before={"state": before} if before else {},
        after={"state": operation.state},
        operation_id=str(operation.pk),
        detail={
            "verb": operation.verb,
            "asked_by": operation.requested_name,
            "used": operation.key_label,
            "note": note,
        },
    )


def audit_money(
    operation: Operation, *, by: Decider | None, before: dict[str, Any], after: dict[str, Any], **detail: Any
) -> None:
    """Write what was charged into the audit log, in numbers."""
    record(
        team=operation.team,
        actor=by.user if by else None,
        action="cloudtime.charged",
        target=operation.engine or operation.connection,
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
        *([f"engine:{operation.uid}"] if operation.engine else []),
        *(["cloudtime"] if operation.verb in MONEY else []),
    )


def _swap(operation: Operation, facts: dict[str, Any]) -> None:
    # Compare-and-swap: of two workers, exactly one sees a row change. Works alike on SQLite and PostgreSQL.
    rows = Operation.objects.filter(pk=operation.pk, state=operation.state, fence=operation.fence)
    if rows.update(**facts) != 1:
        raise Moved(operation.pk)
    _remember(operation, facts)


def _remember(operation: Operation, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        if not isinstance(value, Combinable):  # the database reckons it out
            setattr(operation, name, value)
