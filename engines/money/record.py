"""How an attempt ends, written down: state, outcome, ledger and audit entry are one transaction."""

import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, close_old_connections, transaction

from engines.enums import State
from engines.models import Engine, Operation
from engines.money import ledger
from engines.money.models import CHARGED, Evidence, Extension, Outcome
from engines.operations.moves import Decider, Moved, audit, move
from portal import clock
from portal.failpoints import failpoint

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds that a database may be away; then the sweep finds the row, and readings settle it
PAUSE = 1.0


@dataclass(frozen=True)
class End:
    state: State
    outcome: Outcome | None = None  # None where it goes on
    note: str = ""
    wait: timedelta = timedelta(0)  # before somebody looks at it again
    evidence: Evidence | None = None
    after: datetime | None = None  # the deadline that was answered or read
    answer: dict[str, Any] = field(default_factory=dict)
    # Of a creation: the engine that it is known by now, what was charged by the API's own books, how far it is.
    engine: Engine | None = None
    cost: int | None = None
    progress: dict[str, Any] = field(default_factory=dict)


def record(operation: Operation, end: End, by: Decider | None = None) -> None:
    """Write the end down, once. Raises Moved if somebody else moved the operation, which is then audited."""
    state, fence, begun = operation.state, operation.fence, time.monotonic()
    while True:
        try:
            return _write(operation, end, by)
        except Moved:
            audit(operation, "operation.late_answer", by=by, outcome="unknown", note=f"{end.state}: {end.note}")
            raise
        except (OperationalError, InterfaceError):
            if time.monotonic() - begun > PATIENCE:
                raise
            log.warning("extension %s cannot be recorded yet", operation.pk, exc_info=True)
        time.sleep(PAUSE)
        close_old_connections()
        # Memory may be ahead of what was committed; the compare-and-swap below must start from what we held.
        operation.state, operation.fence = state, fence


@transaction.atomic
def _write(operation: Operation, end: End, by: Decider | None) -> None:
    at = clock.now()
    known = {"answer": end.answer, "engine": end.engine, "progress": end.progress}
    facts = _next(end, at) | {name: value for name, value in known.items() if value}
    # The move first: who comes too late is stopped by it, before anything is booked.
    move(operation, end.state, now=at, note=end.note, by=by, lease_until=None, **facts)
    Extension.objects.filter(pk=operation.pk).update(outcome=end.outcome or "", after=end.after)
    if end.outcome in CHARGED:
        assert end.outcome is not None
        assert end.evidence is not None
        ledger.book(operation, end.outcome, end.evidence, after=end.after, at=at, by=by, cost=end.cost)
    failpoint(f"{operation.verb}.recording")


def _next(end: End, at: datetime) -> dict[str, Any]:
    if end.state in (State.REQUESTED, State.UNKNOWN, State.WORKING):
        return {"next_at": at + end.wait}
    return {"next_at": None}
