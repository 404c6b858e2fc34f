"""What all routes share: the answers they document, and how rows become one."""

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from pydantic import BaseModel, ValidationError

from engines.controlplane import dto, listing, problems
from engines.controlplane import schemas as s
from engines.controlplane.frames import storable
from engines.controlplane.listing import Listable
from engines.controlplane.models import Engine, Team
from engines.controlplane.problems import Problem

M = TypeVar("M", bound=Model)

PROBLEMS = dict.fromkeys((400, 401, 403, 404, 405, 409, 413, 422, 429, 500), s.ProblemOut)
MONEY = {**PROBLEMS, 402: s.ProblemOut, 502: s.ProblemOut}


def answer(found: Any, messages: Iterable[str] = ()) -> HttpResponse:
    """Return the object as an answer, with warnings for the formats that can carry them."""
    response = HttpResponse(json.dumps(found, separators=(",", ":")), content_type="application/json")
    said = [{"level": "warning", "code": "notice", "message": message} for message in messages]
    response.messages = said  # type: ignore[attr-defined]  # for the middleware, which puts it in its format
    return response


def done() -> HttpResponse:
    return HttpResponse(status=204)


def page(rows: QuerySet[M], asked: s.ListIn | None, offer: Listable, shown: Callable[[M], Any]) -> HttpResponse:
    return answer(listing.page(rows, asked or s.ListIn(), offer, shown))


def engine(team: Team, engine_id: str) -> Engine:
    """Return the team's engine; another team's is as unknown as one that never was."""
    found = dto.engines().filter(team=team, pk=engine_id).first()
    if found is None:
        raise problems.not_found("engine")
    return found


def shown(team: Team, engine_id: str, messages: Iterable[str] = ()) -> HttpResponse:
    """Answer with the engine as it is now."""
    return answer(dto.engine(engine(team, engine_id)), messages)


def from_query(asked: s.ListQuery) -> s.ListIn:
    """Return the list request that a query string spells."""
    members: dict[str, Any] = {"cursor": asked.cursor, "limit": asked.limit}
    texts = {"search": asked.search, "filters": asked.filters, "sort": asked.sort, "fields": asked.fields_}
    for name, text in texts.items():
        if text:
            members[name] = _json(name, text)
    return valid(s.ListIn, members)


B = TypeVar("B", bound=BaseModel)


def valid(model: type[B], members: dict[str, Any]) -> B:
    try:
        return model.model_validate(members)
    except ValidationError as error:
        raise faults(error.errors()) from error


def faults(errors: Any) -> Problem:
    """Return the refusal that names each faulty member."""
    found = [{"field": _field(fault["loc"]), "message": fault["msg"]} for fault in errors]
    return problems.invalid_value(f"{found[0]['field']}: {found[0]['message']}", fields=found[:20])


def _field(path: tuple[str | int, ...]) -> str:
    # ninja's paths begin with the place and the name of our argument, which say nothing to a caller.
    return ".".join(str(step) for step in path if step not in ("body", "query", "asked")) or "body"


def _json(name: str, text: str) -> Any:
    try:
        found = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise problems.invalid_request(f"{name} is not JSON.") from error
    if storable(found) != found:
        raise problems.invalid_request(f"{name} has what cannot be stored.")
    return found


def body_of(request: HttpRequest) -> Any:
    """Return the body as JSON that both databases can store: no NaN, NUL or half surrogates, nothing endlessly deep.

    Raises ValueError or RecursionError if it is no such object.
    """
    body = json.loads(request.body, parse_constant=refuse_constant)
    if not isinstance(body, dict | None):
        raise ValueError("the body is not an object")
    if storable(body) != body:
        raise ValueError("the body holds what cannot be stored")
    return body


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
