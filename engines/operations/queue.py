"""What is queued behind another operation is let go when that one has ended, however it did.

Then it waits for the engine, as what is asked of an offline engine does (settle), and is sent with the usual checks.
"""

import logging
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from engines import snapshots
from engines.enums import OPEN, State
from engines.models import QUEUED, Operation
from engines.operations.behaviour import PATIENCE
from engines.operations.moves import Moved, amend, move
from engines.operations.verbs import VERBS, blocker

log = logging.getLogger(__name__)


def words(first: Operation) -> str:
    """Return what one waits for that is queued behind this."""
    return f"Waits until {first}, asked by {first.requested_name}, is finished."


def release(operation_id: str, now: datetime) -> None:
    """Let the operation go if what it is queued behind has ended. Safe to call any number of times, by anybody."""
    rows = Operation.objects.select_related("team", "engine__connection", "requested_by", "behind")
    operation = rows.get(pk=operation_id)
    first = operation.behind
    if not operation.is_queued or first is None or first.state in OPEN:
        return
    try:
        with transaction.atomic():
            _release(operation, first, now)
    except (Moved, IntegrityError):  # or something else was asked of the engine that very moment
        log.info("operation %s was moved by somebody else", operation.pk)


def _release(operation: Operation, first: Operation, now: datetime) -> None:
    if first.state == State.SUPERSEDED:
        move(operation, State.SUPERSEDED, now=now, note=f"{first} was superseded, and with it what waited behind it.")
        return
    engine = operation.its_engine
    if engine.status == "deleted":  # a pass over the fleet does not list it, so no reading of it may follow
        move(operation, State.CANCELLED, now=now, note=VERBS[operation.verb].back(engine).note)
        return
    opened = Operation.objects.of(operation.team).filter(engine=engine, state__in=OPEN).exclude(QUEUED)
    if other := blocker(operation.verb, opened):  # asked in the moment between that end and this
        amend(operation, behind=other, note=words(other))
        return
    end = now + timedelta(hours=operation.parameters[PATIENCE])
    note = f"{first} has ended: {first.get_state_display().lower()}. It is sent as soon as the engine can be asked."
    fence = operation.fence + 1  # of two workers, one lets it go
    move(operation, State.WAITING, now=now, note=note, released_at=now, next_at=end, deadline_at=end, fence=fence)
    snapshots.look_soon(operation.connection, now)
