"""Which task goes to which worker. Any process may run this at any time: each assignment is one transaction."""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import chain, islice, product
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Exists, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat
from django.utils.timezone import now

from engines.controlplane import sending, statements, tasks
from engines.controlplane.enums import LIVE, EngineState, EventKind, Infra
from engines.controlplane.models import DATABASE, LIVE_TASK, QUEUED_TASK, Engine, Task, Worker, atomic
from engines.controlplane.wakeups import DISPATCHER, seen, wake
from engines.enums import TaskStatus

UNMATCHED_LIMIT = timedelta(minutes=10)  # contract 7.4
QUEUE_LIMIT = timedelta(hours=24)
ACTIVE = (EngineState.RUNNING, EngineState.DRAINING, EngineState.STOPPING)
YIELD_SECONDS = 0.00001
TRIES = 8  # at workers that are free, before a new task waits for the next round
CHOICES = 50  # the first so many free workers, and waiting tasks, that a new task is compared with

NO_WORKER = "no_active_worker"
BUSY = "all_workers_busy"
DRAINING = "engine_draining"
ENDING = "paid_time_ending"

HARDWARE = ("gpus", "rams", "warm_apps")
READ = (
    *("id", "engine_id", "engine__name", "kind", "index"),
    *(f"{name}_text" for name in HARDWARE),
    *("engine__state", "engine__mode", "taken", "engine__instance__delete_at"),
)


# As callers aim at a worker.
NAME = Concat("engine__name", Value("-"), "kind", Value("-"), Cast("index", TextField()), output_field=TextField())

# An engine that takes tasks, in the words of its index: SQLite knows a condition only by its words.
TAKES_TASKS = "e.session IS NOT NULL AND e.state = 'running' AND e.mode = 'running'"
# The last column: whether tasks of the team wait. With LIMIT, PostgreSQL asks for the live task of one worker after the
# other; it would make NOT EXISTS or NOT IN a join, and read all tasks that were live since it last cleaned up.
FREE = """
    {aims} SELECT w.id, e.id, e.name, w.kind, w."index", CAST(w.gpus AS text), CAST(w.rams AS text),
        CAST(w.warm_apps AS text), e.state, e.mode, NOT TRUE, i.id IS NOT NULL,
        EXISTS (SELECT 1 FROM controlplane_task q WHERE q.team_id = %s AND q.status = {queued})
    FROM controlplane_engine e
    JOIN controlplane_worker w ON w.engine_id = e.id
    LEFT JOIN controlplane_instance i ON i.engine_id = e.id
    WHERE e.team_id = %s AND {takes_tasks}
        AND w.retired_at IS NULL AND (i.delete_at IS NULL OR i.delete_at > %s) {aimed}
        AND (SELECT 1 FROM controlplane_task t WHERE t.worker_id = w.id AND t.status IN ({live}) LIMIT 1) IS NULL
        AND {tier}
    ORDER BY {first} e.name, w.kind, w."index"
    LIMIT %s
"""
# The better choices first, each tier in the order of an index: the search ends at the first free worker.
RENTED, HAS_GPU = "i.id IS NOT NULL", "CAST(w.gpus AS text) <> '[]'"
ALL_WARM = """
    SELECT id FROM controlplane_worker WHERE NOT (warm_apps = '[]') AND CAST(warm_apps AS text) LIKE %s ESCAPE '!'
"""
SOME_WARM = f"{ALL_WARM} LIMIT 1"
COLD = f"({RENTED}) = %s AND ({HAS_GPU}) = %s"
# The engines first: of a thousand names, the others need not be put together.
AIMS = """
    WITH aim AS MATERIALIZED (
        SELECT engine_id FROM controlplane_worker WHERE id IN ({marks})
        UNION ALL SELECT id FROM controlplane_engine e WHERE team_id = %s AND name IN ({marks}) AND {takes_tasks}
    )
"""
AIMED = """
    AND e.id IN (SELECT engine_id FROM aim)
    AND (w.id IN ({marks}) OR e.name || '-' || w.kind || '-' || w."index" IN ({marks}))
"""
FACTS = {
    "takes_tasks": TAKES_TASKS,
    "queued": TaskStatus.QUEUED.value,
    "live": ", ".join(str(status.value) for status in LIVE),
}
WAITING = "SELECT 1 FROM controlplane_task WHERE team_id = %s AND status = {queued} LIMIT %s"
LOCKED = "SELECT state, session, mode, deleted_at IS NULL FROM controlplane_engine WHERE id = %s"


@dataclass(slots=True)
class Seat:
    """A worker as the dispatcher sees it: whether it could take a task at all, and whether now."""

    worker_id: str
    engine_id: str
    name: str  # of the worker, as callers aim at it
    gpus: list[dict[str, Any]]
    rams: list[dict[str, Any]]
    warm_apps: list[str]
    cloud: bool
    ending: bool  # its paid time is nearly over
    takes_tasks: bool  # its engine does
    free: bool


def run() -> None:
    """Place what can be placed, oldest first; say of the rest why it waits, and end what waited too long."""
    queued: dict[str, list[Task]] = defaultdict(list)
    for task in _queue():
        queued[task.team_id].append(task)
    for team_id, waiting in queued.items():
        _place(waiting, seats(team_id, _targets(waiting)))


def _queue() -> QuerySet[Task]:
    return Task.objects.filter(QUEUED_TASK).defer("input", "output").order_by("created_at", "id")


def admit(task: Task) -> None:
    """Store a new task: with a free worker if there is one for it that nobody waits for, else in the queue."""
    first: Seat | None = None
    for seat in islice(_choices(task), TRIES):
        # A lock is soon over; a model that has to be loaded, or a machine by the hour, is not.
        if first is not None and _rank(task, seat) != _rank(task, first):
            if _start(task, first):
                return
            first = None
        # Many callers at once would all wait for the same engine, to find its worker taken.
        if _start(task, seat, waits=False):
            return
        first = first or seat
    if first is not None and _start(task, first):
        return
    with atomic():
        task.save(force_insert=True)
        tasks.note(task, EventKind.QUEUED, "")
        wake(DISPATCHER, *seen(task.team_id))


def _choices(task: Task) -> Iterator[Seat]:
    """Yield where `run` could put the new task, best first; nothing if it is for `run` to find out."""
    at = now()
    waiting: list[Task] | None = None
    offered: set[str] = set()  # one that is warm comes again among the others
    for seat, others_wait in _free_seats(task, at):
        if seat.worker_id in offered or not _fits(seat, task):
            continue
        offered.add(seat.worker_id)
        if others_wait and waiting is None:
            waiting = _first_waiting(task.team_id)
            if len(waiting) == CHOICES:
                return
        if not any(_fits(seat, other) for other in waiting or () if other.not_before <= at):
            yield seat


def _first_waiting(team_id: str) -> list[Task]:
    return list(_queue().filter(team=team_id).only("infra", "targets", "resources", "not_before")[:CHOICES])


def _free_seats(task: Task, at: datetime) -> Iterator[tuple[Seat, bool]]:
    """Yield the first of the workers that could take the task now, best first, each with whether any task waits."""
    soon = at + timedelta(minutes=settings.LAST_MINUTES)
    team, targets, marks = task.team_id, task.targets, ", ".join(["%s"] * len(task.targets))
    # All in front of the name's last two parts is the engine's.
    engines = [*targets, team, *(target.rsplit("-", 2)[0] for target in targets)] if targets else []
    aims, aimed = (text.format(marks=marks, **FACTS) if targets else "" for text in (AIMS, AIMED))
    choices = CHOICES if task.resources or task.infra else TRIES  # any of them will do
    for tier, first, given in _tiers(task):
        sql = FREE.format(aims=aims, aimed=aimed, tier=tier, first=first, **FACTS)
        for *row, cloud, others_wait in statements.ask(
            sql, *engines, team, team, soon, *targets, *targets, *given, choices
        ):
            seat = _seat_of(row, bool(cloud), ending=False)
            # The pattern also finds the app with another setup beside another app with this one.
            if tier == COLD or _is_warm(task, seat):
                yield seat, bool(others_wait)


def _tiers(task: Task) -> Iterator[tuple[str, str, tuple[object, ...]]]:
    """Yield conditions, how to order what fulfils them, and their parameters, in the order of `_ranked`."""
    warm = f'%"{_in_pattern(task.app)}:%@{setup_hash(task.setup)}"%'
    if statements.ask(SOME_WARM, warm):
        yield f"w.id IN ({ALL_WARM})", f"{RENTED}, " + ("" if "gpu" in task.resources else f"{HAS_GPU}, "), (warm,)
    for rented, has_gpu in product((False, True), repeat=2):
        yield COLD, "", (rented, has_gpu)
        # Behind a long queue it waits in any case: a busy fleet need not be looked through three times more.
        if not (rented or has_gpu) and len(statements.ask(WAITING.format(**FACTS), task.team_id, CHOICES)) == CHOICES:
            return


def _in_pattern(app: str) -> str:
    """Return the name as the text of `warm_apps` has it, for LIKE: Django's JSON is ASCII, PostgreSQL's is not."""
    text = json.dumps(app, ensure_ascii=connections[DATABASE].vendor == "sqlite")[1:-1]
    return re.sub("[%_!]", lambda found: f"!{found[0]}", text)


def _targets(waiting: Iterable[Task]) -> set[str]:
    """Return the workers that are aimed at, by id or name; nothing if any worker will do for some task."""
    targets = [task.targets for task in waiting]
    return set(chain.from_iterable(targets)) if all(targets) else set()


def seats(team_id: str, targets: Collection[str] = ()) -> list[Seat]:
    """Return the workers of the team's connected engines; only those with these ids or names if any are given."""
    # Of a thousand engines this is read many times a second: no model objects, no JSON, nothing for Django to convert.
    rows = Worker.objects.annotate(
        **{f"{name}_text": Cast(name, TextField()) for name in HARDWARE},
        taken=Exists(Task.objects.filter(LIVE_TASK, worker=OuterRef("pk"))),
    ).filter(engine__team=team_id, retired_at__isnull=True, engine__session__isnull=False, engine__state__in=ACTIVE)
    if targets:
        rows = rows.annotate(name=NAME).filter(Q(pk__in=targets) | Q(name__in=targets))
    soon = now() + timedelta(minutes=settings.LAST_MINUTES)
    ordered = rows.order_by("engine__name", "kind", "index").values_list(*READ)
    return [
        _seat_of(row, paid_until is not None, paid_until is not None and paid_until <= soon)
        for *row, paid_until in ordered
    ]


def _seat_of(row: Sequence[Any], cloud: bool, ending: bool) -> Seat:
    worker_id, engine_id, engine_name, kind, index, gpus, rams, warm_apps, state, mode, taken = row
    takes_tasks = state == EngineState.RUNNING and mode == "running"
    return Seat(
        worker_id=worker_id,
        engine_id=engine_id,
        name=f"{engine_name}-{kind}-{index}",
        gpus=_parsed(gpus),
        rams=_parsed(rams),
        warm_apps=_parsed(warm_apps),
        cloud=cloud,
        ending=ending,
        takes_tasks=takes_tasks,
        free=takes_tasks and not taken and not ending,
    )


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """Workers of a kind are described by the same text. Nobody changes what is returned."""
    return json.loads(text)


def _place(waiting: Iterable[Task], all_seats: list[Seat]) -> None:
    matches: dict[tuple[str, ...], list[Seat]] = {}
    at = now()
    for task in waiting:
        wish = (task.infra, json.dumps(task.resources, sort_keys=True), *task.targets)
        if wish not in matches:
            matches[wish] = [seat for seat in all_seats if _fits(seat, task)]
        suitable = matches[wish]
        if task.not_before > at or not _seat(task, suitable):
            _wait(task, suitable, at)


def _fits(seat: Seat, task: Task) -> bool:
    place = (
        {Infra.CLOUD: seat.cloud, Infra.PRIVATE: not seat.cloud}.get(Infra(task.infra), True) if task.infra else True
    )
    aimed = not task.targets or seat.worker_id in task.targets or seat.name in task.targets
    return place and aimed and suits(seat, task.resources)


def needs(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker must have, in bytes, without what is not asked for.

    Sizes as the hosted API's tools read them (ENGINES_API.md 3.4): below 1,000 gigabytes, below 1e9 megabytes.
    """
    gpu = asked.get("gpu") or {}
    kind, count, vram = gpu.get("type", "any"), int(gpu.get("count") or 0), _bytes(int(gpu.get("vram") or 0))
    if kind not in ("any", "none") or vram:
        count = max(count, 1)
    found: dict[str, Any] = {}
    if count or kind != "any":
        found["gpu"] = {"type": kind, "count": count, "vram": vram}
    if ram := _bytes(int(asked.get("ram") or 0)):
        found["ram"] = ram
    return found


def _bytes(size: int) -> int:
    if size < 1000:
        return size * 10**9
    return size * 10**6 if size < 10**9 else size


def suits(seat: Seat, need: dict[str, Any]) -> bool:
    """Say whether the worker has what is needed, in the form that `needs` returns."""
    if sum(int(ram.get("total") or 0) for ram in seat.rams) < need.get("ram", 0):
        return False
    gpu = need.get("gpu")
    if gpu is None:
        return True
    if gpu["type"] == "none":
        return not seat.gpus
    fitting = [each for each in seat.gpus if gpu["type"] in ("any", each.get("type"))]
    vram = sum(int(each.get("vram") or 0) for each in fitting)
    return bool(len(fitting) >= gpu["count"] and vram >= gpu["vram"])


def _ranked(task: Task, suitable: list[Seat]) -> list[Seat]:
    """The better choice first: the app is warm, own hardware before rented, no GPU kept from those who need one."""
    return sorted(suitable, key=partial(_rank, task))


def _rank(task: Task, seat: Seat) -> tuple[bool, bool, bool]:
    return not _is_warm(task, seat), seat.cloud, bool(seat.gpus) and "gpu" not in task.resources


def _is_warm(task: Task, seat: Seat) -> bool:
    name, setup = f"{task.app}:", f"@{setup_hash(task.setup)}"
    return any(app.startswith(name) and app.endswith(setup) for app in seat.warm_apps)


def setup_hash(setup: dict[str, Any]) -> str:
    """Return the last part of a warm app's name: 0 for an app that was given no setup."""
    if not setup:
        return "0"
    return hashlib.sha256(json.dumps(setup, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def _seat(task: Task, suitable: list[Seat]) -> bool:
    for seat in _ranked(task, [seat for seat in suitable if seat.free]):
        seat.free = False
        if assign(task, seat):
            return True
    return False


def _held(seat: Seat, *, waits: bool = True) -> Engine | None:
    """Lock the engine's row and return it; None if it may not be given a task, or somebody else has it locked.

    It is locked from the check to the commit: a drain comes before the check or after the assignment.
    """
    rows = statements.ask(statements.locking(LOCKED, waits=waits), seat.engine_id)
    if not rows:
        return None
    ((state, session, mode, is_there),) = rows
    session = Engine._meta.get_field("session").to_python(session)
    engine = Engine.from_db(DATABASE, ("id", "state", "session", "mode"), (seat.engine_id, state, session, mode))
    return engine if is_there and engine.takes_tasks else None


def _start(task: Task, seat: Seat, *, waits: bool = True) -> bool:
    """Store the new task as the worker's; False, with nothing stored, if the worker is no longer free."""
    with atomic():
        engine = _held(seat, waits=waits)
        if engine is None or not tasks.start(task, engine, seat.worker_id, f"to {seat.name}"):
            return False
        sending.hand_over(engine, task)  # first: nothing else is in such a hurry
        wake(*seen(task.pk, task.team_id, engine.pk))
    # The loop, rung by now, would wait for this thread to have written its answer, or for the end of its turn.
    time.sleep(YIELD_SECONDS)
    return True


def assign(task: Task, seat: Seat) -> bool:
    """Give the queued task to the worker; False if engine, worker or task are no longer free for it."""
    with atomic():
        engine = _held(seat)
        if engine is None or Task.objects.filter(LIVE_TASK, worker=seat.worker_id).exists():
            return False
        at = now()
        try:
            tasks.move(
                task,
                TaskStatus.DISPATCHED,
                EventKind.DISPATCHED,
                f"to {seat.name}",
                engine=engine,
                worker_id=seat.worker_id,
                attempt=task.attempt + 1,
                dispatched_at=at,
                accepted_at=None,
                unmatched_since=None,
                waiting_for="",
            )
        except tasks.Moved:
            return False
        Worker.objects.filter(pk=seat.worker_id).update(status_at=at)
        sending.hand_over(engine, task)
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
    reason, engine_id = _reason(suitable)
    since = None if suitable else (task.unmatched_since or at)
    if reason == task.waiting_for and since == task.unmatched_since:
        return
    rows = Task.objects.filter(pk=task.pk, status=TaskStatus.QUEUED)
    with atomic():
        if rows.update(waiting_for=reason, unmatched_since=since) and reason != task.waiting_for:
            tasks.note(task, EventKind.WAITING, reason, Engine.objects.filter(pk=engine_id).first())


def _reason(suitable: list[Seat]) -> tuple[str, str | None]:
    if not suitable:
        return NO_WORKER, None
    taking = [seat for seat in suitable if seat.takes_tasks]
    if taking and all(seat.ending for seat in taking):
        return ENDING, taking[0].engine_id
    if taking:
        return BUSY, None
    return DRAINING, suitable[0].engine_id
