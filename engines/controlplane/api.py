"""The Engines API's routes. Thin: each reads the request, calls one function and shows rows."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Query
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser
from ninja.types import DictStrAny
from pydantic import ValidationError as InvalidModel

from engines.controlplane import drain, dto, listing, problems, registration, tasks
from engines.controlplane import schemas as s
from engines.controlplane.auth import Bearer, key_of, team_of
from engines.controlplane.enums import ENDED, EventKind
from engines.controlplane.frames import storable
from engines.controlplane.middleware import Refusal
from engines.controlplane.models import Engine, Task, Team, atomic
from engines.controlplane.problems import Problem
from engines.controlplane.wakeups import DISPATCHER, wake

LARGEST_INPUT = 900_000  # bytes as JSON: a task must fit in one frame of the socket
FAILURES = dict.fromkeys((400, 401, 403, 404, 405, 409, 413, 422, 429, 500), s.ProblemOut)


class Strict(Parser):
    """JSON that both databases can store: no NaN, no NUL, no half surrogates."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        body: DictStrAny = json.loads(request.body, parse_constant=_refuse)
        if not isinstance(body, dict | None):
            raise ValueError("the body is not an object")
        if b"\\u" in request.body and storable(body) != body:
            raise ValueError("a text has characters that cannot be stored")
        return body


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


api = NinjaAPI(
    title="Engines API",
    version="1.0.0",
    description="Engines, their workers and tasks. The socket of an engine is GET /engines/{id}/ws (subprotocol "
    "engines.v1). `X-API-Version: 2` answers with the objects described here; 1, and no header, wrap them.",
    docs_url=None,
    parser=Strict(),
)


# What goes wrong


@api.exception_handler(Problem)
def _problem(request: HttpRequest, error: Problem) -> HttpResponse:
    return Refusal(error)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return Refusal(_faults(error.errors))


@api.exception_handler(HttpError)
def _http(request: HttpRequest, error: HttpError) -> HttpResponse:
    problem = problems.from_status(error.status_code)
    problem.detail = "The body is not a JSON object that can be stored." if error.status_code == 400 else str(error)
    return Refusal(problem)


def _faults(errors: Any) -> Problem:
    faults = [{"field": _field(fault["loc"]), "message": fault["msg"]} for fault in errors]
    return problems.invalid_value(f"{faults[0]['field']}: {faults[0]['message']}", fields=faults[:20])


def _field(path: tuple[str | int, ...]) -> str:
    # ninja's paths begin with the place and the name of our argument, which say nothing to a caller.
    return ".".join(str(step) for step in path if step not in ("body", "query", "asked")) or "body"


def _answer(found: Any) -> HttpResponse:
    return HttpResponse(json.dumps(found, separators=(",", ":")), content_type="application/json")


# Engines


@api.post("/engines/register", response={200: s.RegisteredOut, **FAILURES}, auth=Bearer("engines:write"))
def register(request: HttpRequest, asked: s.RegisterIn) -> HttpResponse:
    """Called by an engine at its start: without an id the first time, with the saved one later."""
    engine = registration.register(team_of(request), asked)
    found = dto.engines().get(pk=engine.pk)
    return _answer({"engine_id": found.pk, "workers": dto.workers(found)})


@api.post("/engines/list", response={200: s.EnginePageOut, **FAILURES}, auth=Bearer("engines:read"))
def list_engines(request: HttpRequest, asked: s.ListIn | None = None) -> HttpResponse:
    """The team's engines, newest first. The body may be empty."""
    return _answer(_engines(team_of(request), asked or s.ListIn()))


@api.get("/engines", response={200: s.EnginePageOut, **FAILURES}, auth=Bearer("engines:read"))
def read_engines(request: HttpRequest, asked: Query[s.ListQuery]) -> HttpResponse:
    """The same, with the list request in the query string."""
    return _answer(_engines(team_of(request), _from_query(asked)))


@api.get("/engines/{engine_id}", response={200: s.EngineOut, **FAILURES}, auth=Bearer("engines:read"))
def get_engine(request: HttpRequest, engine_id: str) -> HttpResponse:
    """One engine with its workers."""
    return _answer(dto.engine(_engine(team_of(request), engine_id)))


@api.post("/engines/{engine_id}/drain", response={200: s.EngineOut, **FAILURES}, auth=Bearer("engines:write"))
def drain_engine(request: HttpRequest, engine_id: str) -> HttpResponse:
    """The engine takes nothing new, finishes what runs, and shuts down. 409 `engine_offline` if not connected."""
    drain.request(_engine(team_of(request), engine_id).pk)
    return _answer(dto.engine(_engine(team_of(request), engine_id)))


def _engines(team: Team, asked: s.ListIn) -> dict[str, Any]:
    return listing.page(dto.engines().filter(team=team), asked, listing.ENGINES, dto.engine)


def _engine(team: Team, engine_id: str) -> Engine:
    """Return the team's engine; another team's is as unknown as one that never was."""
    found = dto.engines().filter(team=team, pk=engine_id).first()
    if found is None:
        raise problems.not_found("engine")
    return found


def _from_query(asked: s.ListQuery) -> s.ListIn:
    members: dict[str, Any] = {"cursor": asked.cursor, "limit": asked.limit}
    texts = {"search": asked.search, "filters": asked.filters, "sort": asked.sort, "fields": asked.fields_}
    for name, text in texts.items():
        if text:
            members[name] = _json(name, text)
    try:
        return s.ListIn.model_validate(members)
    except InvalidModel as error:
        raise _faults(error.errors()) from error


def _json(name: str, text: str) -> Any:
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise problems.invalid_request(f"{name} is not JSON.") from error
    if storable(found) != found:
        raise problems.invalid_request(f"{name} has characters that cannot be stored.")
    return found


# Tasks


@api.post("/run", response={200: s.TaskOut, **FAILURES}, auth=Bearer("tasks:write"), operation_id="run")
@api.post("/apps/run", response={200: s.TaskOut, **FAILURES}, auth=Bearer("tasks:write"), operation_id="apps_run")
def run(request: HttpRequest, asked: s.RunIn) -> HttpResponse:
    """Queue a task. It goes to a free worker of the team; `workers` narrows the choice."""
    size = len(json.dumps(asked.input, ensure_ascii=False).encode())
    if size > LARGEST_INPUT:
        raise Problem(413, "payload_too_large", f"The input has {size} bytes as JSON; {LARGEST_INPUT} fit.")
    with atomic():
        task = Task.objects.create(
            team=team_of(request),
            key=key_of(request),
            app=asked.app,
            input=asked.input,
            infra=asked.infra or "",
            targets=asked.workers or [],
            on_engine_loss=asked.on_engine_loss,
        )
        tasks.note(task, EventKind.QUEUED, "")
        wake(DISPATCHER)
    return _answer(dto.task(task))


@api.post("/tasks/list", response={200: s.TaskPageOut, **FAILURES}, auth=Bearer("tasks:read"))
def list_tasks(request: HttpRequest, asked: s.ListIn | None = None) -> HttpResponse:
    """The team's tasks, newest first, without their history. The body may be empty."""
    rows = Task.objects.filter(team=team_of(request))
    return _answer(listing.page(rows, asked or s.ListIn(), listing.TASKS, dto.task))


@api.get("/tasks/{task_id}", response={200: s.TaskWithHistoryOut, **FAILURES}, auth=Bearer("tasks:read"))
def get_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """One task with its result and what happened to it, output included."""
    return _answer(dto.task_with_history(_task(team_of(request), task_id)))


@api.post("/tasks/{task_id}/cancel", response={200: s.TaskOut, **FAILURES}, auth=Bearer("tasks:write"))
def cancel_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """End a queued task, ask the engine to end a running one. 409 `invalid_transition` once it has ended."""
    task = _task(team_of(request), task_id)
    try:
        if task.status in ENDED:
            raise tasks.Moved
        tasks.cancel(task)
    except tasks.Moved as error:
        raise Problem(409, "invalid_transition", "The task has ended, or moved this very moment.") from error
    return _answer(dto.task(task))


def _task(team: Team, task_id: str) -> Task:
    found = Task.objects.filter(team=team, pk=task_id).select_related("engine").first()
    if found is None:
        raise problems.not_found("task")
    return found


# The rest


@api.get("/me", response={200: s.MeOut, **FAILURES}, auth=Bearer())
def me(request: HttpRequest) -> HttpResponse:
    """The key that calls, what it may do, and its team. Needs no scope."""
    return _answer(dto.me(key_of(request)))


@api.get("/healthz", response=s.HealthOut)
def healthz(request: HttpRequest) -> HttpResponse:
    """The process is up."""
    return _answer({"status": "ok"})
