"""Which task goes to which worker. Any process may run this at any time: each assignment is one transaction."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef
from django.utils.timezone import now

from engines.controlplane import tasks
from engines.controlplane.enums import LIVE, EngineState, EventKind, Infra
from engines.controlplane.models import Engine, Task, Worker, atomic
from engines.controlplane.wakeups import wake
from engines.enums import TaskStatus

UNMATCHED_LIMIT = timedelta(minutes=10)  # contract 7.4
QUEUE_LIMIT = timedelta(hours=24)
ACTIVE = (EngineState.RUNNING, EngineState.DRAINING)

NO_WORKER = "no_active_worker"
BUSY = "all_workers_busy"
DRAINING = "engine_draining"


@dataclass
class Seat:
    """A worker as the dispatcher sees it: whether it could take a task at all, and whether now."""

    worker: Worker
    free: bool

    @property
    def engine(self) -> Engine:
        return self.worker.engine

    @property
    def names(self) -> tuple[str, str]:
        return self.worker.id, f"{self.engine.name}-{self.worker.kind}-{self.worker.index}"


def run() -> None:
    """Place what can be placed, oldest first; say of the rest why it waits, and end what waited too long."""
    queued: dict[str, list[Task]] = defaultdict(list)
    for task in Task.objects.filter(status=TaskStatus.QUEUED).defer("input", "output").order_by("created_at", "id"):
        queued[task.team_id].append(task)
    for team_id, waiting in queued.items():
        _place(waiting, seats(team_id))


def seats(team_id: str) -> list[Seat]:
    """Return the workers of the team's connected engines."""
    taken = Task.objects.filter(worker=OuterRef("pk"), status__in=LIVE)
    rows = Worker.objects.filter(
        engine__team=team_id, retired_at__isnull=True, engine__session__isnull=False, engine__state__in=ACTIVE
    )
    rows = rows.annotate(taken=Exists(taken)).select_related("engine").order_by("engine__name", "kind", "index")
    return [Seat(worker, worker.engine.takes_tasks and not worker.taken) for worker in rows]


def _place(waiting: Iterable[Task], all_seats: list[Seat]) -> None:
    matches: dict[tuple[str, ...], list[Seat]] = {}
    at = now()
    for task in waiting:
        wish = (task.infra, *task.targets)
        if wish not in matches:
            matches[wish] = [seat for seat in all_seats if _fits(seat, task)]
        suitable = matches[wish]
        if task.not_before > at or not _seat(task, suitable):
            _wait(task, suitable, at)


def _fits(seat: Seat, task: Task) -> bool:
    # Every engine here is the team's own; there is no shared cloud to fall back to.
    return task.infra != Infra.CLOUD and (not task.targets or any(name in task.targets for name in seat.names))


def _seat(task: Task, suitable: list[Seat]) -> bool:
    for seat in suitable:
        if seat.free:
            seat.free = False
            if assign(task, seat.worker):
                return True
    return False


def assign(task: Task, worker: Worker) -> bool:
    """Give the task to the worker; False if engine, worker or task are no longer free for it.

    The engine's row is locked from the check to the commit: a drain comes before the check or after the assignment.
    """
    with atomic():
        engine = Engine.objects.select_for_update().get(pk=worker.engine_id)
        taken = Task.objects.filter(worker=worker, status__in=LIVE).exists()
        if not engine.takes_tasks or taken:
            return False
        at = now()
        name = f"{engine.name}-{worker.kind}-{worker.index}"
        try:
            tasks.move(
                task,
                TaskStatus.DISPATCHED,
                EventKind.DISPATCHED,
                f"to {name}",
                engine=engine,
                worker=worker,
                attempt=task.attempt + 1,
                dispatched_at=at,
                accepted_at=None,
                unmatched_since=None,
                waiting_for="",
            )
        except tasks.Moved:
            return False
        Worker.objects.filter(pk=worker.pk).update(status_at=at)
        wake(engine.id)
    return True


def _wait(task: Task, suitable: list[Seat], at: datetime) -> None:
    try:
        if at - task.created_at > QUEUE_LIMIT:
            tasks.end(task, TaskStatus.FAILED, error="expired: no worker became free within 24 hours")
        elif not suitable and task.unmatched_since and at - task.unmatched_since > UNMATCHED_LIMIT:
            tasks.end(task, TaskStatus.FAILED, error="no active worker matched this task for 10 minutes")
        else:
            _explain(task, suitable, at)
    except tasks.Moved:
        return  # somebody else placed it or took it back


def _explain(task: Task, suitable: list[Seat], at: datetime) -> None:
    """Note why the task waits, when that has changed."""
    reason, engine = _reason(suitable)
    since = None if suitable else (task.unmatched_since or at)
    if reason == task.waiting_for and since == task.unmatched_since:
        return
    rows = Task.objects.filter(pk=task.pk, status=TaskStatus.QUEUED)
    with atomic():
        if rows.update(waiting_for=reason, unmatched_since=since) and reason != task.waiting_for:
            tasks.note(task, EventKind.WAITING, reason, engine)


def _reason(suitable: list[Seat]) -> tuple[str, Engine | None]:
    if not suitable:
        return NO_WORKER, None
    if any(seat.engine.takes_tasks for seat in suitable):
        return BUSY, None
    return DRAINING, suitable[0].engine
