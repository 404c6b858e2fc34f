"""Tasks: run, follow, cancel."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.timezone import now
from ninja import Router

from engines.controlplane import dispatch, dto, listing, problems, streams, tasks
from engines.controlplane import schemas as s
from engines.controlplane.auth import Bearer, key_of, team_of
from engines.controlplane.enums import ENDED
from engines.controlplane.idempotency import once
from engines.controlplane.models import Task, Team
from engines.controlplane.problems import Problem
from engines.controlplane.routes.common import PROBLEMS, answer, page

router = Router(tags=["tasks"])
READ, WRITE = Bearer("tasks:read"), Bearer("tasks:write")
LARGEST_INPUT = 900_000  # bytes as JSON: a task must fit in one frame of the socket
ONE = {200: s.TaskOut, **PROBLEMS}


@router.post("/run", response=ONE, auth=WRITE, operation_id="run")
@router.post("/apps/run", response=ONE, auth=WRITE, operation_id="apps_run")
@once
def run(request: HttpRequest, asked: s.RunIn) -> HttpResponse:
    """Run a task on a free worker of the team that has what it needs, or queue it; `workers` narrows the choice."""
    size = len(json.dumps([asked.input, asked.setup], ensure_ascii=False).encode())
    if size > LARGEST_INPUT:
        raise Problem(413, "payload_too_large", f"The input has {size} bytes as JSON; {LARGEST_INPUT} fit.")
    task = Task(
        team=team_of(request),
        key=key_of(request),
        app=asked.app,
        input=asked.input,
        setup=asked.setup,
        resources=dispatch.needs(asked.resources.model_dump()),
        infra=asked.infra or "",
        targets=asked.workers or [],
        on_engine_loss=asked.on_engine_loss,
    )
    dispatch.admit(task)
    return answer(dto.task(task))


@router.post("/tasks/list", response={200: s.TaskPageOut, **PROBLEMS}, auth=READ)
def list_tasks(request: HttpRequest, asked: s.ListIn | None = None) -> HttpResponse:
    """The team's tasks, newest first, without their history. The body may be empty."""
    return page(Task.objects.filter(team=team_of(request)), asked, listing.TASKS, dto.task)


@router.get("/tasks/{task_id}", response=ONE, auth=READ)
def get_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """One task with its result and what happened to it, output included."""
    return answer(dto.task_with_history(_task(team_of(request), task_id)))


@router.get("/tasks/{task_id}/status", response={200: s.TaskStatusOut, **PROBLEMS}, auth=READ)
def get_task_status(request: HttpRequest, task_id: str) -> HttpResponse:
    """The little that a poll needs."""
    return answer(dto.task_status(_task(team_of(request), task_id)))


@router.get("/tasks/{task_id}/logs", response={200: s.TaskLogsOut, **PROBLEMS}, auth=READ)
def get_task_logs(request: HttpRequest, task_id: str) -> HttpResponse:
    """What happened to it and what it wrote."""
    return answer(dto.task_logs(_task(team_of(request), task_id)))


@router.get("/tasks/{task_id}/timings", response={200: s.TaskTimingsOut, **PROBLEMS}, auth=READ)
def get_task_timings(request: HttpRequest, task_id: str) -> HttpResponse:
    """How long it waited, started and ran, up to now if it has not ended."""
    return answer(dto.task_timings(_task(team_of(request), task_id), now()))


@router.post("/tasks/{task_id}/cancel", response=ONE, auth=WRITE)
@once
def cancel_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """End a queued task, ask the engine to end a running one. 409 `invalid_transition` once it has ended."""
    task = _task(team_of(request), task_id)
    while task.status not in ENDED:
        try:
            tasks.cancel(task)
        except tasks.Moved:
            task.refresh_from_db()  # it was dispatched, accepted or ended this very moment
        else:
            return answer(dto.task(task))
    raise Problem(409, "invalid_transition", "The task has ended. Nothing was changed.")


@router.get("/tasks/{task_id}/stream", response=ONE, auth=READ)
def stream_task(request: HttpRequest, task_id: str) -> Any:
    """The whole task at once and after every change, up to its end. Formats as for engines."""
    team = team_of(request)
    _task(team, task_id)

    def look() -> tuple[list[tuple[str, dict[str, Any]]], bool]:
        row = Task.objects.get(team=team, pk=task_id)
        return [("tasks", dto.task_with_history(row))], row.status in ENDED

    return streams.stream(request, "tasks:read", (task_id,), look, named=False)


def _task(team: Team, task_id: str) -> Task:
    found = Task.objects.filter(team=team, pk=task_id).select_related("engine").first()
    if found is None:
        raise problems.not_found("task")
    return found
