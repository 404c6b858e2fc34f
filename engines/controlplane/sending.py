"""What must go out on a connection, read from the rows.

Level-triggered: it looks at the state, not at what happened, so a lost wake-up costs time only.
"""

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db import transaction

from engines import wire
from engines.controlplane import drain, keys, releases, tasks
from engines.controlplane.enums import EMPTYING, EngineState, UpdatePhase
from engines.controlplane.models import DATABASE, LIVE_TASK, Engine, Task
from engines.controlplane.sessions import Over, Session, fence, find_held, frame, instance
from engines.controlplane.wakeups import wake
from engines.enums import TaskStatus

log = logging.getLogger(__name__)

# What is read of an engine. A column that is missing here costs a query more, and changes of it may go unseen.
READ = (
    *("state", "session", "boot_id", "drain_epoch", "drained_epoch", "follow_up"),
    *("update_phase", "update_epoch", "update_asked", "api_url"),
)


def due(session: Session) -> list[wire.Frame]:
    """Return what the rows say must be sent on this connection and was not yet. Raises Over."""
    if not keys.serving([session.key_id]):
        raise Over(wire.CLOSE_REFUSED, "the key of this connection was revoked or has expired")
    # The engine first: a task assigned before the drain is then sent before it.
    engine = Engine.objects.only(*READ).get(pk=session.engine_id)
    fence(engine, session)
    live = list(Task.objects.filter(LIVE_TASK, engine=engine).defer("output").order_by("dispatched_at", "id"))
    return [
        *_assignments(session, live),
        *_cancels(session, live),
        *_drain(session, engine, live),
        *_update(session, engine),
    ]


def hand_over(engine: Engine, task: Task) -> None:
    """Have the task's assignment sent at once if this process has the engine's socket, else when its holder looks.

    Called in the transaction that assigns it, with the engine's row locked and read; counts once that is committed.
    """

    def hand() -> None:
        session = find_held(engine.session)
        if session is not None and keys.serving([session.key_id]):
            session.handed.append(((task.pk, task.attempt), _assignment(task)))

    transaction.on_commit(hand, using=DATABASE, robust=True)  # the rows say it all without this
    wake(engine.pk)


def readings(sessions: Sequence[Session]) -> dict[uuid.UUID, object]:
    """Return what `due` would read for each session, by its id, in a form that can be compared."""
    serving = keys.serving({session.key_id for session in sessions})
    ours = Engine.objects.filter(session__isnull=False, held_by=instance())
    engines = {row[0]: row for row in ours.values_list("pk", *READ)}
    live: dict[str | None, set[tuple[object, ...]]] = defaultdict(set)
    for row in Task.objects.filter(LIVE_TASK, engine__in=ours).values_list("engine_id", "pk", "attempt", "status"):
        live[row[0]].add(row)
    return {each.id: (each.key_id in serving, engines.get(each.engine_id), live[each.engine_id]) for each in sessions}


def _assignments(session: Session, live: Iterable[Task]) -> list[wire.Frame]:
    out: list[wire.Frame] = []
    for task in live:
        attempt = (task.pk, task.attempt)
        if task.status == TaskStatus.DISPATCHED and attempt not in session.sent:
            session.sent.add(attempt)
            out.append(_assignment(task))
    return out


def _assignment(task: Task) -> wire.Frame:
    given = wire.Assign(task_id=task.pk, worker_id=task.worker_id or "", app=task.app, input=task.input)
    if task.setup:
        given["setup"] = task.setup
    return frame("task", given)


def _cancels(session: Session, live: Iterable[Task]) -> list[wire.Frame]:
    out: list[wire.Frame] = []
    for task in live:
        attempt = (task.pk, task.attempt)
        if task.status != TaskStatus.CANCELLING or attempt in session.cancelled:
            continue
        session.cancelled.add(attempt)
        if attempt in session.sent:
            out.append(frame("cancel", wire.Cancel(task_id=task.pk)))
        else:
            _withdraw(task)
    return out


def _withdraw(task: Task) -> None:
    """Cancel a task that the engine was never told of."""
    try:
        tasks.end(task, TaskStatus.CANCELLED, error="cancelled before it ran")
    except tasks.Moved:
        log.info("task %s moved while it was taken back", task.pk)


def _drain(session: Session, engine: Engine, live: list[Task]) -> list[wire.Frame]:
    epoch = engine.drain_epoch
    if engine.drained_epoch != epoch:
        again = session.too_early and not live
        # One that was stopped while it was away is told when it comes back.
        asked = engine.state in (*EMPTYING, EngineState.STOPPED)
        if asked and (session.drain_sent != epoch or again):
            session.drain_sent, session.too_early = epoch, False
            return [frame("drain", wire.Drain(epoch=epoch))]
        return []
    # It reported, we recorded it, and the answer was lost with the last connection.
    over = engine.state in (EngineState.STOPPED, EngineState.STOPPING, EngineState.RESTARTING)
    if over and epoch and session.answered != epoch:
        session.answered = epoch
        return [frame(drain.answer(engine), wire.Shutdown(epoch=epoch))]
    return []


def _update(session: Session, engine: Engine) -> list[wire.Frame]:
    asked = engine.state == EngineState.RUNNING and engine.update_phase in (UpdatePhase.ASKED, UpdatePhase.FETCHING)
    if not asked or session.update_sent == engine.update_epoch:
        return []
    session.update_sent = engine.update_epoch
    url = releases.manifest_url(engine.update_asked, engine.api_url)
    return [frame("update", wire.Update(epoch=engine.update_epoch, version=engine.update_asked, manifest_url=url))]
