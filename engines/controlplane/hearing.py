"""What an engine's frames after the hello mean for the rows. Each frame is one transaction."""

import logging

from django.utils.timezone import now

from engines import wire
from engines.controlplane import drain, frames, tasks, update
from engines.controlplane.enums import ENDED, LIVE, RESULTS, EventKind
from engines.controlplane.models import Engine, Task, Worker, atomic
from engines.controlplane.sessions import Over, Session, frame, locked, locked_tasks
from engines.controlplane.wakeups import seen, wake
from engines.enums import TaskStatus
from portal.failpoints import failpoint

log = logging.getLogger(__name__)

MOST_WARM = 20  # apps of a worker that are noted as warm

# Refusals that another worker, or the same one later, may not repeat.
WORTH_ANOTHER_TRY = ("engine_draining", "worker_busy", "worker_unknown")


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
        case frames.UpdateStatus():
            return _update(session, said)
    raise Over(wire.CLOSE_REFUSED, "a second hello")


def is_sign_of_life(session: Session, said: object) -> bool:
    """Note that the engine was heard, which the next look of `watch` writes down; say if the frame tells no more."""
    session.heard = True
    return isinstance(said, frames.Heartbeat) and said.mode == session.mode and said.warm in (None, session.warm)


def _beat(session: Session, said: frames.Heartbeat) -> list[wire.Frame]:
    with atomic():
        engine = locked(session)
        Engine.objects.filter(pk=engine.pk).update(mode=said.mode)
        if said.warm is not None and _warm(engine, said.warm):
            wake(*seen(engine.pk, engine.team_id))
    session.mode = said.mode
    session.warm = session.warm if said.warm is None else said.warm
    return []


def _warm(engine: Engine, warm: dict[str, list[str]]) -> bool:
    """Note which apps start at once on which worker; say whether that is news."""
    news = False
    for worker in Worker.objects.filter(engine=engine, retired_at__isnull=True):
        apps = warm.get(worker.pk, [])[:MOST_WARM]
        if apps != worker.warm_apps:
            Worker.objects.filter(pk=worker.pk).update(warm_apps=apps)
            news = True
    return news


def _update(session: Session, said: frames.UpdateStatus) -> list[wire.Frame]:
    with atomic():
        update.heard(locked(session), said)
    return []


def _task(engine: Engine, task_id: str) -> Task | None:
    """Return the task if it is with this engine now."""
    return locked_tasks().filter(pk=task_id, engine=engine, status__in=LIVE).first()


def _accepted(session: Session, said: frames.TaskAccepted) -> list[wire.Frame]:
    with atomic():
        task = _task(locked(session), said.task_id)
        if task is not None and task.status == TaskStatus.DISPATCHED:
            tasks.accept(task, session.boot_id)
    return []


def _rejected(session: Session, said: frames.TaskRejected) -> list[wire.Frame]:
    with atomic():
        engine = locked(session)
        if said.reason == "engine_draining":
            Engine.objects.filter(pk=engine.pk).update(mode="draining")
            session.mode = "draining"
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
        task = _task(locked(session), said.task_id)
        if task is None:
            return []
        facts: dict[str, object] = {} if said.progress is None else {"progress": said.progress}
        facts |= {} if said.message is None else {"message": said.message[:500]}
        Task.objects.filter(pk=task.pk).update(**facts, updated_at=now())
        wake(*seen(task.pk, task.team_id))
        tasks.log(task, said.log)
    return []


def _result(session: Session, said: frames.Result) -> list[wire.Frame]:
    with atomic():
        engine = locked(session)
        reply = settle(engine, said)
        wake(engine.id)
        failpoint("result.before_commit")
    return [reply]


def settle(engine: Engine, said: frames.Result) -> wire.Frame:
    """Record a result, once, and return the acknowledgement.

    A result that nobody waits for is acknowledged too: else the engine would hold it for ever, and never be drained.
    """
    task = locked_tasks().filter(pk=said.task_id, team=engine.team_id).first()
    if task is None:
        log.warning("engine %s delivered a result of an unknown task", engine.pk)
    elif task.status == TaskStatus.QUEUED or (task.status in LIVE and task.engine_id == engine.pk):
        tasks.end(task, RESULTS[said.status], output=said.output, error=said.error)
    elif task.status not in ENDED or task.engine_id != engine.pk or task.status != RESULTS[said.status]:
        tasks.note(task, EventKind.LATE, f"a late result ({said.status}) was not used", engine)
    return frame("result_ack", wire.ResultAck(task_id=said.task_id))


def _drained(session: Session, said: frames.Drained) -> list[wire.Frame]:
    with atomic():
        engine = locked(session)
        answer = drain.finish(engine, said.epoch)
        session.too_early = not answer
    if not answer:
        return []
    failpoint("drained.after_commit")
    session.answered = said.epoch
    return [frame(answer, wire.Shutdown(epoch=said.epoch))]
