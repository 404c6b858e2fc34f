"""The only code that moves a task. Every move is a compare-and-swap and writes its line of history."""

from datetime import timedelta
from typing import Any

from django.utils.timezone import now

from engines.controlplane import statements
from engines.controlplane.enums import ENDED, LIVE, MOVES, EventKind, OnEngineLoss
from engines.controlplane.models import Engine, Task, TaskEvent, Worker, atomic
from engines.controlplane.wakeups import DISPATCHER, seen, wake
from engines.enums import TaskStatus

LOG_KEPT = 256 * 1024  # characters of output kept per task
BUSY_SINCE = "UPDATE controlplane_worker SET status_at = %s WHERE id = %s"
LONGEST_PAUSE = timedelta(seconds=60)  # between two tries to place a task that engines refuse


class Moved(Exception):
    """The row is no longer in the state that we read."""


def move(task: Task, to: TaskStatus, kind: EventKind, text: str = "", **facts: Any) -> None:
    """Move `task` in the database and in memory, and write the event.

    Raises ValueError on a move that MOVES does not allow, Moved if somebody else was quicker.
    """
    if to not in MOVES.get(TaskStatus(task.status), ()):
        raise ValueError(f"{task.status} -> {to} is not a move")
    at = now()
    engine = facts.get("engine", task.engine)
    facts |= {"status": to, "updated_at": at} | ({"finished_at": at} if to in ENDED else {})
    with atomic():
        if Task.objects.filter(pk=task.pk, status=task.status, attempt=task.attempt).update(**facts) != 1:
            raise Moved(task.pk)
        TaskEvent.objects.create(task=task, at=at, kind=kind, text=text[:2000], engine=engine)
        Worker.objects.filter(pk=task.worker_id).update(status_at=at)
        if to not in LIVE:  # it waits for a worker, or has left one
            wake(DISPATCHER)
        wake(*seen(task.pk, task.team_id, task.engine_id, engine and engine.pk))
    for name, value in facts.items():
        setattr(task, name, value)


move.alters_data = True  # type: ignore[attr-defined]  # no calls from templates


def start(task: Task, engine: Engine, worker_id: str, where: str) -> bool:
    """Store a new task as one that found its worker at once; False, with nothing stored, if that has a task.

    The caller holds the engine's row, and wakes who waits for it.
    """
    at = task.created_at = task.updated_at = task.not_before = now()
    task.status, task.engine, task.worker_id = TaskStatus.DISPATCHED, engine, worker_id
    task.attempt, task.dispatched_at = 1, at
    if not statements.insert(task):
        task.status, task.engine, task.worker_id = TaskStatus.QUEUED, None, None
        task.attempt, task.dispatched_at = 0, None
        return False
    statements.insert(
        TaskEvent(task_id=task.pk, at=at, kind=EventKind.QUEUED),
        TaskEvent(task_id=task.pk, at=at, kind=EventKind.DISPATCHED, text=where, engine=engine),
    )
    statements.ask(BUSY_SINCE, at, worker_id)
    return True


def note(task: Task, kind: EventKind, text: str, engine: Engine | None = None) -> None:
    """Write a line of history that is no move."""
    TaskEvent.objects.create(task=task, kind=kind, text=text[:2000], engine=engine)


def accept(task: Task, boot_id: str) -> None:
    """The engine has it and runs it."""
    move(task, TaskStatus.RUNNING, EventKind.ACCEPTED, boot_id=boot_id, accepted_at=now())


def requeue(task: Task, kind: EventKind, reason: str) -> None:
    """Put it back, for whichever worker is next; each time a little later, so that a refusal cannot spin."""
    pause = min(LONGEST_PAUSE, timedelta(seconds=2 ** min(task.attempt, 6) / 2))
    move(
        task,
        TaskStatus.QUEUED,
        kind,
        reason,
        engine_id=None,
        worker_id=None,
        boot_id="",
        accepted_at=None,
        dispatched_at=None,
        progress=0,
        message="",
        waiting_for=reason[:40] if kind == EventKind.REJECTED else "",
        not_before=now() + pause,
    )


def end(task: Task, to: TaskStatus, *, output: Any = None, error: str = "") -> None:
    """Record how it ended. `error` is for a person to read."""
    progress = 1.0 if to == TaskStatus.COMPLETED else task.progress
    move(task, to, EventKind.ENDED, error or to.name.lower(), output=output, error=error, progress=progress)


def lose(task: Task, why: str, *, denied: bool = False) -> None:
    """Its engine will not finish it: end it or queue it again, as its caller asked for.

    `denied`: the engine itself says that it does not have it. Then one that was never accepted has never run.
    """
    if task.status == TaskStatus.CANCELLING:
        end(task, TaskStatus.CANCELLED, error="cancelled; the engine does not have it")
    elif denied and task.accepted_at is None:
        requeue(task, EventKind.REQUEUED, "the engine never started it")
    elif task.on_engine_loss == OnEngineLoss.REQUEUE:
        requeue(task, EventKind.REQUEUED, why)
    else:
        end(task, TaskStatus.FAILED, error=why)


def cancel(task: Task) -> None:
    """End a queued task; ask the engine about one that is with it. Does not wait. Raises Moved."""
    if task.status == TaskStatus.QUEUED:
        end(task, TaskStatus.CANCELLED, error="cancelled before it ran")
    elif task.status != TaskStatus.CANCELLING:
        with atomic():
            move(task, TaskStatus.CANCELLING, EventKind.CANCELLING)
            wake(task.engine_id or "")


def log(task: Task, lines: str) -> None:
    """Keep output, up to LOG_KEPT characters a task. What is too much is dropped, and that is said once."""
    room = LOG_KEPT - task.logged
    if room <= 0 or not lines:
        return
    text = lines[:room] + ("\n[more output was not kept]" if len(lines) >= room else "")
    TaskEvent.objects.create(task=task, kind=EventKind.LOG, text=text, engine=task.engine)
    task.logged += min(len(lines), room)
    Task.objects.filter(pk=task.pk).update(logged=task.logged)
