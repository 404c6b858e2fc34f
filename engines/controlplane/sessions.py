"""What the frames of a socket mean for the rows. Each function is one transaction; no sockets and no waiting here.

A session is one connection whose hello was reconciled. Its id on the engine's row is the fence: whatever a
connection says after another took its place changes nothing.
"""

import logging
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils.timezone import now

from engines import wire
from engines.controlplane import drain, frames, keys, tasks
from engines.controlplane.enums import ENDED, LIVE, RESULTS, EngineState, EventKind, OnEngineLoss
from engines.controlplane.failpoints import failpoint
from engines.controlplane.models import Engine, Task, atomic
from engines.controlplane.wakeups import DISPATCHER, wake
from engines.enums import TaskStatus

log = logging.getLogger(__name__)

# Refusals that another worker, or the same one later, may not repeat.
WORTH_ANOTHER_TRY = ("engine_draining", "worker_busy", "worker_unknown")
CLOSE_RESTART = 1012  # come again at once


class Over(Exception):
    """This connection must end, with `code` and a reason of at most 123 bytes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:123].decode(errors="ignore")


@dataclass
class Session:
    """One connection, and what was sent on it: a fact of the connection, so it lives and dies with it."""

    engine_id: str
    key_id: str
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    boot_id: str = ""
    sent: set[tuple[str, int]] = field(default_factory=set)  # tasks, with the number of the attempt
    cancelled: set[tuple[str, int]] = field(default_factory=set)
    drain_sent: int = 0
    too_early: bool = False  # it reported drained while we still had work for it
    shutdown_sent: int = 0


def instance() -> str:
    """The name of this process in `Engine.held_by`. Two processes never have the same address."""
    return f"{socket.gethostname()}:{settings.API_PORT}"


def forget_own() -> int:
    """At start: nobody else can hold a socket in our name, so what an earlier process left is gone."""
    left = Engine.objects.filter(session__isnull=False, held_by=instance())
    return left.update(session=None, held_by="", updated_at=now())


def forget_silent() -> int:
    """Let go of engines whose process, ours or another's, has not heard them for far too long."""
    limit = now() - timedelta(seconds=2 * wire.DEAD_AFTER_SECONDS)
    left = Engine.objects.filter(session__isnull=False, heartbeat_at__lt=limit)
    return left.update(session=None, held_by="", updated_at=now())


def end(session: Session) -> None:
    """The socket is closed. Counts only if it is still the registered one; tasks are left as they are."""
    rows = Engine.objects.filter(pk=session.engine_id, session=session.id)
    rows.update(session=None, held_by="", updated_at=now())


def _locked(session: Session) -> Engine:
    """Return the engine's row, locked. Raises Over if another connection or process took this one's place."""
    engine = Engine.objects.select_for_update().get(pk=session.engine_id)
    _fence(engine, session)
    return engine


def _fence(engine: Engine, session: Session) -> None:
    newer_process = bool(engine.boot_id) and engine.boot_id != session.boot_id
    if newer_process or engine.session not in (None, session.id):
        raise Over(wire.CLOSE_REPLACED, "another process has taken this engine's place")
    if engine.session is None:
        raise Over(CLOSE_RESTART, "this connection is no longer registered; connect again")


# Hello


def greet(session: Session, hello: frames.Hello) -> list[wire.Frame]:
    """Reconcile what the engine holds with our rows, register the connection, and return the answers.

    Until this is committed nothing is dispatched to the engine and nothing of it is requeued.
    """
    with atomic():
        engine = Engine.objects.select_for_update().get(pk=session.engine_id)
        if engine.boot_id and hello.boot_id != engine.boot_id:
            raise Over(wire.CLOSE_REPLACED, "a newer process of this engine has registered")
        session.boot_id = hello.boot_id
        replies = [_settle(engine, result) for result in hello.results]
        _reconcile(engine, session, hello)
        _register(engine, session, hello)
        wake(engine.id, DISPATCHER)
    return [*replies, _frame("welcome", wire.Welcome(engine_id=engine.id))]


def _register(engine: Engine, session: Session, hello: frames.Hello) -> None:
    at = now()
    state = EngineState.RUNNING if engine.state == EngineState.PENDING else engine.state
    Engine.objects.filter(pk=engine.pk).update(
        state=state,
        session=session.id,
        held_by=instance(),
        connected_at=at,
        heartbeat_at=at,
        mode=hello.mode,
        version=hello.version or engine.version,
        updated_at=at,
    )


def _reconcile(engine: Engine, session: Session, hello: frames.Hello) -> None:
    reported = {task.task_id for task in hello.running}
    for task in _locked_tasks().filter(engine=engine, status__in=LIVE):
        if task.pk in reported:
            session.sent.add((task.pk, task.attempt))
            if task.status == TaskStatus.DISPATCHED:
                tasks.accept(task, hello.boot_id)
        elif task.status == TaskStatus.CANCELLING:
            tasks.end(task, TaskStatus.CANCELLED, error="cancelled; the engine does not have it")
        elif task.accepted_at is None:
            tasks.requeue(task, EventKind.REQUEUED, "the engine never started it")
        else:
            _lost(task, hello)


def _lost(task: Task, hello: frames.Hello) -> None:
    died = task.boot_id != hello.boot_id
    why = "the engine restarted while this task ran" if died else "the engine no longer knows this task"
    if task.on_engine_loss == OnEngineLoss.REQUEUE:
        tasks.requeue(task, EventKind.REQUEUED, why)
    else:
        tasks.end(task, TaskStatus.FAILED, error=why)


# The other frames


def hear(session: Session, said: object) -> list[wire.Frame]:
    """Act on one frame after the hello and return the answers. Raises Over."""
    match said:
        case frames.Heartbeat():
            return _beat(session, said)
        case frames.TaskAccepted():
            return _accepted(session, said)
        case frames.TaskRejected():
            return _rejected(session, said)
        case frames.TaskUpdate():
            return _updated(session, said)
        case frames.Result():
            return _result(session, said)
        case frames.Drained():
            return _drained(session, said)
    raise Over(wire.CLOSE_REFUSED, "a second hello")


def _beat(session: Session, said: frames.Heartbeat) -> list[wire.Frame]:
    with atomic():
        engine = _locked(session)
        Engine.objects.filter(pk=engine.pk).update(heartbeat_at=now(), mode=said.mode)
    return []


def _task(engine: Engine, task_id: str) -> Task | None:
    """Return the task if it is with this engine now."""
    return _locked_tasks().filter(pk=task_id, engine=engine, status__in=LIVE).first()


def _locked_tasks() -> QuerySet[Task]:
    # Always after the engine's row, so that two transactions cannot wait for each other.
    return Task.objects.select_for_update(of=("self",)).select_related("engine").order_by("id")


def _accepted(session: Session, said: frames.TaskAccepted) -> list[wire.Frame]:
    with atomic():
        task = _task(_locked(session), said.task_id)
        if task is not None and task.status == TaskStatus.DISPATCHED:
            tasks.accept(task, session.boot_id)
    return []


def _rejected(session: Session, said: frames.TaskRejected) -> list[wire.Frame]:
    with atomic():
        engine = _locked(session)
        if said.reason == "engine_draining":
            Engine.objects.filter(pk=engine.pk).update(mode="draining")
        task = _task(engine, said.task_id)
        # A late refusal of an earlier attempt says nothing about a task that runs.
        if task is not None and task.accepted_at is None:
            _turned_away(task, said.reason)
        wake(engine.id)
    return []


def _turned_away(task: Task, reason: str) -> None:
    if task.status == TaskStatus.CANCELLING:
        tasks.end(task, TaskStatus.CANCELLED, error="cancelled before it ran")
    elif reason in WORTH_ANOTHER_TRY:
        tasks.requeue(task, EventKind.REJECTED, reason)
    else:
        tasks.end(task, TaskStatus.FAILED, error=f"the engine cannot run it: {reason}")


def _updated(session: Session, said: frames.TaskUpdate) -> list[wire.Frame]:
    with atomic():
        task = _task(_locked(session), said.task_id)
        if task is None:
            return []
        facts: dict[str, object] = {} if said.progress is None else {"progress": said.progress}
        facts |= {} if said.message is None else {"message": said.message[:500]}
        Task.objects.filter(pk=task.pk).update(**facts, updated_at=now())
        tasks.log(task, said.log)
    return []


def _result(session: Session, said: frames.Result) -> list[wire.Frame]:
    with atomic():
        engine = _locked(session)
        reply = _settle(engine, said)
        wake(engine.id)
        failpoint("result.before_commit")
    return [reply]


def _settle(engine: Engine, said: frames.Result) -> wire.Frame:
    """Record a result, once, and return the acknowledgement. What we do not wait for is acknowledged too:

    else the engine would hold it for ever, and never be drained.
    """
    task = _locked_tasks().filter(pk=said.task_id, team=engine.team_id).first()
    if task is None:
        log.warning("engine %s delivered a result of an unknown task", engine.pk)
    elif task.status == TaskStatus.QUEUED or (task.status in LIVE and task.engine_id == engine.pk):
        tasks.end(task, RESULTS[said.status], output=said.output, error=said.error)
    elif task.status not in ENDED or task.engine_id != engine.pk or task.status != RESULTS[said.status]:
        tasks.note(task, EventKind.LATE, f"a late result ({said.status}) was not used", engine)
    return _frame("result_ack", wire.ResultAck(task_id=said.task_id))


def _drained(session: Session, said: frames.Drained) -> list[wire.Frame]:
    with atomic():
        engine = _locked(session)
        done = drain.finish(engine, said.epoch)
        if done:
            wake(DISPATCHER)
        else:
            session.too_early = True
    if not done:
        return []
    failpoint("drained.after_commit")
    session.shutdown_sent = said.epoch
    return [_frame("shutdown", wire.Shutdown(epoch=said.epoch))]


# What must be sent


def due(session: Session) -> list[wire.Frame]:
    """Return what the rows say must be sent on this connection and was not yet. Raises Over.

    Level-triggered: it looks at the state, not at what happened, so a lost wake-up costs time only.
    """
    if not keys.may_serve(session.key_id):
        raise Over(wire.CLOSE_REFUSED, "the key of this connection was revoked or has expired")
    # The engine first: a task assigned before the drain is then sent before it.
    engine = Engine.objects.get(pk=session.engine_id)
    _fence(engine, session)
    live = list(Task.objects.filter(engine=engine, status__in=LIVE).order_by("dispatched_at", "id"))
    return [*_assignments(session, live), *_cancels(session, live), *_drain(session, engine, live)]


def _assignments(session: Session, live: Iterable[Task]) -> list[wire.Frame]:
    out: list[wire.Frame] = []
    for task in live:
        attempt = (task.pk, task.attempt)
        if task.status == TaskStatus.DISPATCHED and attempt not in session.sent:
            session.sent.add(attempt)
            given = wire.Assign(task_id=task.pk, worker_id=task.worker_id or "", app=task.app, input=task.input)
            out.append(_frame("task", given))
    return out


def _cancels(session: Session, live: Iterable[Task]) -> list[wire.Frame]:
    out: list[wire.Frame] = []
    for task in live:
        attempt = (task.pk, task.attempt)
        if task.status != TaskStatus.CANCELLING or attempt in session.cancelled:
            continue
        if attempt in session.sent:
            session.cancelled.add(attempt)
            out.append(_frame("cancel", wire.Cancel(task_id=task.pk)))
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
    again = session.too_early and not live
    if engine.state == EngineState.DRAINING and (session.drain_sent != epoch or again):
        session.drain_sent, session.too_early = epoch, False
        return [_frame("drain", wire.Drain(epoch=epoch))]
    # It reported, we recorded it, and the answer was lost with the last connection.
    if engine.state == EngineState.STOPPED and session.shutdown_sent != engine.drained_epoch:
        session.shutdown_sent = engine.drained_epoch
        return [_frame("shutdown", wire.Shutdown(epoch=engine.drained_epoch))]
    return []


def _frame(kind: str, data: Any) -> wire.Frame:
    return {"type": kind, "data": data}
