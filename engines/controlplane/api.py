"""The Engines API as one: its routes, what goes wrong in them, and its description."""

from typing import Any

from django.http import FileResponse, HttpRequest, HttpResponse
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser
from ninja.types import DictStrAny

from engines.controlplane import problems, releases
from engines.controlplane import schemas as s
from engines.controlplane.described import Described
from engines.controlplane.middleware import Refusal
from engines.controlplane.problems import Problem
from engines.controlplane.routes import engines, tasks, team
from engines.controlplane.routes.common import answer, body_of, faults


class Strict(Parser):
    """What `body_of` says is JSON."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        body: DictStrAny = body_of(request)
        return body


api = Described(
    title="Engines API",
    version="1.0.0",
    description="Engines, their workers and tasks. The socket of an engine is GET /engines/{id}/ws (subprotocol "
    "engines.v1). `X-API-Version: 2` answers with the objects described here; 1, and no header, wrap them.",
    docs_url=None,
    parser=Strict(),
)
for router in (engines.router, tasks.router, team.router):
    api.add_router("", router)


@api.exception_handler(Problem)
def _problem(request: HttpRequest, error: Problem) -> HttpResponse:
    return Refusal(error)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return Refusal(faults(error.errors))


@api.exception_handler(HttpError)
def _http(request: HttpRequest, error: HttpError) -> HttpResponse:
    problem = problems.from_status(error.status_code)
    problem.detail = "The body is not a JSON object that can be stored." if error.status_code == 400 else str(error)
    return Refusal(problem)


@api.get("/healthz", response=s.HealthOut)
def healthz(request: HttpRequest) -> HttpResponse:
    """The process is up."""
    return answer({"status": "ok"})


@api.get(releases.PATH + "/{path:name}", include_in_schema=False)
def dist(request: HttpRequest, name: str) -> Any:
    """A file of the engine's releases: manifests and archives. Needs no key."""
    folder = releases.folder().resolve()
    try:
        found = (folder / name).resolve()
        if found.is_relative_to(folder) and found.is_file():
            return FileResponse(found.open("rb"))
    except OSError:  # no file can have such a name
        pass
    raise problems.not_found("release")
