"""Engines: ENGINES_API.md 2.1."""

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.utils.timezone import now
from ninja import Header, Query, Router

from engines import wire
from engines.controlplane import (
    create,
    dispatch,
    drain,
    dto,
    extend,
    listing,
    problems,
    registration,
    releases,
    restart,
    states,
    stop,
    streams,
    update,
)
from engines.controlplane import schemas as s
from engines.controlplane.auth import Bearer, key_of, team_of
from engines.controlplane.enums import LIVE, EngineState
from engines.controlplane.idempotency import once
from engines.controlplane.models import ApiKey, Engine, Task, Team, atomic
from engines.controlplane.routes.common import (
    MONEY,
    PROBLEMS,
    answer,
    done,
    engine,
    from_query,
    page,
    shown,
)
from engines.enums import EngineStatus

router = Router(tags=["engines"])
READ, WRITE = Bearer("engines:read"), Bearer("engines:write")
ONE = {200: s.EngineOut, **PROBLEMS}
GONE = (EngineStatus.PENDING, EngineStatus.STOPPED, EngineStatus.DISCONNECTED)


@router.post("/engines/register", response={200: s.RegisteredOut, **PROBLEMS}, auth=WRITE)
@once
def register(request: HttpRequest, asked: s.RegisterIn) -> HttpResponse:
    """Called by an engine at its start: without an id the first time, with the saved one later."""
    row = registration.register(team_of(request), asked)
    found = dto.engines().get(pk=row.pk)
    return answer({"engine_id": found.pk, "workers": dto.workers(found)})


@router.post("/engines/list", response={200: s.EnginePageOut, **PROBLEMS}, auth=READ)
def list_engines(request: HttpRequest, asked: s.ListIn | None = None) -> HttpResponse:
    """The team's engines, newest first. The body may be empty."""
    return page(_engines(request), asked, listing.ENGINES, dto.engine)


@router.get("/engines", response={200: s.EnginePageOut, **PROBLEMS}, auth=READ)
def read_engines(request: HttpRequest, asked: Query[s.ListQuery]) -> HttpResponse:
    """The same, with the list request in the query string."""
    return page(_engines(request), from_query(asked), listing.ENGINES, dto.engine)


def _engines(request: HttpRequest) -> Any:
    return dto.engines().filter(team=team_of(request))


@router.post("/engines", response={200: s.EngineOut, **MONEY}, auth=WRITE)
@once
def create_engine(request: HttpRequest, asked: s.CreateIn) -> HttpResponse:
    """Create a record for an engine of your own, or rent a machine with an engine on it, paid up to its end.

    402 without the money, 400 `create_failed` when the cloud refuses; either way nothing is spent.
    """
    row = create.create(team_of(request), asked, key_of(request))
    return shown(team_of(request), row.pk)


@router.get("/engines/releases", response={200: s.ReleasesOut, **PROBLEMS, 502: s.ProblemOut}, auth=READ)
def get_releases(request: HttpRequest) -> HttpResponse:
    """The newest version of each channel that engines can be updated to."""
    return answer(releases.heads())


@router.post("/engines/resources", response={200: list[s.EngineOut], **PROBLEMS}, auth=READ)
def for_resources(request: HttpRequest, asked: s.ResourcesIn | None = None) -> HttpResponse:
    """The engines that could run this now: connected, not draining, with a worker that has what is needed."""
    need = dispatch.needs((asked or s.ResourcesIn()).model_dump())
    fitting = {seat.engine_id for seat in dispatch.seats(team_of(request).pk) if dispatch.suits(seat, need)}
    rows = _engines(request).filter(pk__in=fitting).order_by("name", "id")
    return answer([dto.engine(row) for row in rows if row.takes_tasks])


@router.get("/engines/{engine_id}", response=ONE, auth=READ)
def get_engine(request: HttpRequest, engine_id: str) -> HttpResponse:
    """One engine with its workers."""
    return shown(team_of(request), engine_id)


@router.post("/engines/{engine_id}", response=ONE, auth=WRITE)
@once
def edit_engine(request: HttpRequest, engine_id: str, asked: s.EditIn) -> HttpResponse:
    """Rename it, or change its visibility. A whole Engine may be sent back; the rest of it changes nothing."""
    row = engine(team_of(request), engine_id)
    facts: dict[str, Any] = {"name": asked.name, "named": True} if asked.name is not None else {}
    facts |= {"visibility": asked.visibility} if asked.visibility is not None else {}
    return _write(team_of(request), row, facts)


@router.post("/engines/{engine_id}/visibility", response=ONE, auth=WRITE)
@once
def set_visibility(request: HttpRequest, engine_id: str, asked: s.VisibilityIn) -> HttpResponse:
    """Note who is meant to see it. Who can is its team, whatever this says."""
    return _write(team_of(request), engine(team_of(request), engine_id), {"visibility": asked.visibility})


def _write(team: Team, row: Engine, facts: dict[str, Any]) -> HttpResponse:
    if facts:
        with atomic():
            states.move(states.locked(row.pk), **facts)
    return shown(team, row.pk)


@router.delete("/engines/{engine_id}", response={204: None, **PROBLEMS}, auth=WRITE)
@once
def delete_engine(request: HttpRequest, engine_id: str) -> HttpResponse:
    """Remove an engine that is stopped, never came, or is not connected and has nothing to do. 409 `conflict` else."""
    found = engine(team_of(request), engine_id)
    with atomic():
        row = states.locked(found.pk)
        row.refresh_from_db(fields=["status"])
        _must_be_gone(row)
        machine = states.instance_of(row)
        ApiKey.objects.filter(pk=machine.key_id if machine else None).update(revoked_at=now())
        states.move(row, deleted_at=now(), session=None, held_by="")
    return done()


def _must_be_gone(row: Engine) -> None:
    """Raise Problem 409 if deleting the row would lose a task, or a machine that costs."""
    if row.status not in GONE or row.session is not None:
        raise problems.conflict(f"The engine {row.name} is {row.status}. Stop it first. Nothing was changed.")
    machine = states.instance_of(row)
    if machine is not None and not machine.gone:
        raise problems.conflict(f"The machine of {row.name} is {machine.status}. Stop the engine first.")
    if Task.objects.filter(engine=row, status__in=LIVE).exists():
        raise problems.conflict(f"The engine {row.name} has tasks and may come back. Stop it first.")


@router.post("/engines/{engine_id}/drain", response=ONE, auth=WRITE)
@once
def drain_engine(request: HttpRequest, engine_id: str) -> HttpResponse:
    """The engine takes nothing new, finishes what runs, and shuts down. 409 `engine_offline` if not connected."""
    drain.request(engine(team_of(request), engine_id).pk)
    return shown(team_of(request), engine_id)


@router.post("/engines/{engine_id}/update", response=ONE, auth=WRITE)
@once
def update_engine(request: HttpRequest, engine_id: str, asked: s.UpdateIn | None = None) -> HttpResponse:
    """The engine fetches and checks the version, finishes what runs, and starts again with it.

    `update` in the answer says how far it is. A version that cannot be used leaves the old one running and says why.
    409 `engine_offline` if not connected.
    """
    update.request(engine(team_of(request), engine_id).pk, (asked or s.UpdateIn()).version)
    return shown(team_of(request), engine_id)


@router.post("/engines/{engine_id}/extend", response={200: s.EngineOut, **MONEY}, auth=WRITE)
@once
def extend_engine(request: HttpRequest, engine_id: str, asked: s.ExtendIn | None = None) -> HttpResponse:
    """Buy hours: the paid time's end moves by as many, and the balance pays hourly_price × additional_hours.

    400 `validation_error` or `extend_failed`, 402 `payment_required`: nothing was charged. 502 `provider_unclear`: it
    is being settled; read the engine, and do not ask again.
    """
    row = engine(team_of(request), engine_id)
    extend.request(row, (asked or s.ExtendIn()).additional_hours, key_of(request))
    limited = getattr(row, "instance", None) is not None and row.instance.spend_limit is not None
    warning = "The spend limit did not move: the machine is deleted once it has cost that much."
    return shown(team_of(request), engine_id, [warning] if limited else [])


@router.post("/engines/{engine_id}/stop", response=ONE, auth=WRITE)
@once
def stop_engine(
    request: HttpRequest, engine_id: str, only: Annotated[str, Header(alias=wire.ONLY_IF_CONNECTED)] = ""
) -> HttpResponse:
    """Finish what runs, end, and give its machine back. An engine that is not connected is stopped at once.

    With `X-Only-If-Connected: true` one that lost its connection is left alone: 409 `engine_offline`.
    """
    stop.request(engine(team_of(request), engine_id).pk, only_if_connected=only == "true")
    return shown(team_of(request), engine_id)


@router.post("/engines/{engine_id}/restart", response=ONE, auth=WRITE)
@once
def restart_engine(
    request: HttpRequest, engine_id: str, only: Annotated[str, Header(alias=wire.ONLY_IF_CONNECTED)] = ""
) -> HttpResponse:
    """Restart a cloud engine's machine, after what runs is finished if it is connected. 409 `restart_unsupported`.

    With `X-Only-If-Connected: true` one that lost its connection is left alone: 409 `engine_offline`.
    """
    restart.request(engine(team_of(request), engine_id).pk, only_if_connected=only == "true")
    return shown(team_of(request), engine_id)


@router.post("/engines/{engine_id}/transfer", response=ONE, auth=WRITE)
@once
def transfer_engine(request: HttpRequest, engine_id: str, asked: s.TransferIn) -> HttpResponse:
    """Give a self-hosted engine that is stopped, or not connected, to another team. Its host needs a key of theirs."""
    found = engine(team_of(request), engine_id)
    to = Team.objects.filter(pk=asked.team_id).first()
    if to is None:
        raise problems.not_found("team")
    with atomic():
        row = states.locked(found.pk)
        row.refresh_from_db(fields=["status"])
        _must_be_gone(row)
        if states.instance_of(row) is not None:
            raise problems.conflict("A cloud engine's paid time belongs to its team. It cannot be transferred.")
        states.move(row, team_id=to.pk, state=EngineState.STOPPED)
        row.team_id = to.pk
    return answer(dto.engine(dto.engines().get(pk=found.pk)))


@router.get("/engines/{engine_id}/stream", response={200: s.EngineOut, **PROBLEMS}, auth=READ)
def stream_engine(request: HttpRequest, engine_id: str) -> Any:
    """The whole engine at once and after every change, as `text/event-stream` or `application/x-ndjson`.

    Ends when the engine is deleted.
    """
    team = team_of(request)
    engine(team, engine_id)

    def look() -> tuple[list[tuple[str, dict[str, Any]]], bool]:
        row = dto.engines().filter(team=team, pk=engine_id).first()
        return ([("engines", dto.engine(row))], False) if row else ([], True)

    return streams.stream(request, "engines:read", (engine_id,), look, named=False)
