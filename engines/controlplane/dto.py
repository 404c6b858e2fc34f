"""Rows as the contract's objects. Plain dictionaries: a list of a hundred engines is read every few seconds."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet

from engines.controlplane.enums import LIVE, EngineState
from engines.controlplane.models import ApiKey, Engine, Task, Team, Worker
from engines.enums import WorkerStatus


def engines() -> QuerySet[Engine]:
    """Engines with what their objects show: three queries, however many there are."""
    live = Task.objects.filter(status__in=LIVE).only("id", "app", "worker_id")
    workers = Worker.objects.filter(retired_at__isnull=True).order_by("-kind", "index")
    workers = workers.prefetch_related(Prefetch("task_set", live, to_attr="live"))
    return Engine.objects.prefetch_related(Prefetch("workers", workers, to_attr="shown"))


def engine(row: Engine) -> dict[str, Any]:
    """Return the Engine object. The row must come from `engines()`."""
    return {
        **_base(row.id, row.team_id, row.created_at, row.updated_at),
        "name": row.name,
        "status": row.status,
        "api_url": row.api_url,
        "engine_version": row.version,
        "engine_pin": "",
        "capabilities": None,
        "config": {**row.config, "id": row.id, "name": row.name, "api_key": ""},
        "instance": None,
        "system_info": row.system_info or None,
        "workers": workers(row),
    }


def workers(row: Engine) -> list[dict[str, Any]]:
    return [_worker(worker, row) for worker in row.shown]  # type: ignore[attr-defined]  # prefetched


def _worker(row: Worker, engine: Engine) -> dict[str, Any]:
    task: Task | None = next(iter(row.live), None)  # type: ignore[attr-defined]  # prefetched
    return {
        "id": row.id,
        "short_id": _short(row.id),
        "created_at": _time(row.created_at),
        "updated_at": _time(row.status_at),
        "user_id": "",
        "team_id": engine.team_id,
        "index": row.index,
        "status": str(_worker_status(engine, task)),
        "status_updated_at": _time(row.status_at),
        "heartbeat_at": _time(engine.heartbeat_at),
        "engine_id": engine.id,
        "task_id": task.id if task else None,
        "app_id": task.app if task else "",
        "app_version_id": "",
        "gpus": _parts(row, row.gpus),
        "cpus": _parts(row, row.cpus),
        "rams": _parts(row, row.rams),
        "warm_apps": [],
    }


def _worker_status(engine: Engine, task: Task | None) -> WorkerStatus:
    if engine.session is None or engine.state not in (EngineState.RUNNING, EngineState.DRAINING):
        return WorkerStatus.INACTIVE
    return WorkerStatus.BUSY if task else WorkerStatus.IDLE


def _parts(worker: Worker, parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": f"{worker.id}-{number}", "worker_id": worker.id, **part} for number, part in enumerate(parts)]


def task(row: Task) -> dict[str, Any]:
    return {
        **_base(row.id, row.team_id, row.created_at, row.updated_at),
        "status": int(row.status),
        "app": row.app,
        "app_id": row.app,
        "input": row.input,
        "output": row.output,
        "error": row.error,
        "infra": row.infra,
        "workers": row.targets,
        "on_engine_loss": row.on_engine_loss,
        "engine_id": row.engine_id,
        "worker_id": row.worker_id,
        "progress": row.progress,
        "message": row.message,
        "waiting_for": row.waiting_for,
        "attempt": row.attempt,
        "dispatched_at": _time(row.dispatched_at),
        "started_at": _time(row.accepted_at),
        "finished_at": _time(row.finished_at),
    }


def task_with_history(row: Task) -> dict[str, Any]:
    events = [
        {"at": _time(event.at), "kind": event.kind, "text": event.text, "engine_id": event.engine_id}
        for event in row.events.all()
    ]
    return {**task(row), "events": events}


def me(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "user_id": "",
        "team_id": key.team_id,
        "team": _team(key.team),
        "key": {
            "id": key.id,
            "name": key.name,
            "prefix": key.prefix,
            "scopes": key.scopes,
            "created_at": _time(key.created_at),
            "expires_at": _time(key.expires_at),
            "last_used_at": _time(key.last_used_at),
        },
    }


def _team(row: Team) -> dict[str, Any]:
    return {"id": row.id, "type": "team", "name": row.name, "username": row.slug}


def _base(row_id: str, team_id: str, created_at: datetime, updated_at: datetime) -> dict[str, Any]:
    return {
        "id": row_id,
        "short_id": _short(row_id),
        "created_at": _time(created_at),
        "updated_at": _time(updated_at),
        "user_id": "",
        "team_id": team_id,
        "visibility": "team",
    }


def _short(row_id: str) -> str:
    return row_id.rpartition("_")[2][:8]


def _time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
