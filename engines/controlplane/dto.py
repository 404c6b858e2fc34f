"""Rows as the contract's objects. Plain dictionaries: a list of a hundred engines is read every few seconds."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Prefetch, QuerySet

from engines.controlplane import host, keys
from engines.controlplane.enums import LIVE, EngineState, EventKind
from engines.controlplane.models import ApiKey, Engine, Instance, LedgerEntry, Task, TaskEvent, Team, Worker
from engines.enums import TaskStatus, WorkerStatus

TASK_LOG = 4  # the contract's log_type of what a task wrote


def engines() -> QuerySet[Engine]:
    """Engines that are not deleted, with what their objects show: three queries, however many there are."""
    return engines_ever().filter(deleted_at__isnull=True)


def engines_ever() -> QuerySet[Engine]:
    live = Task.objects.filter(status__in=LIVE).only("id", "app", "worker_id")
    workers = Worker.objects.filter(retired_at__isnull=True).order_by("-kind", "index")
    workers = workers.prefetch_related(Prefetch("task_set", live, to_attr="live"))
    rows = Engine.objects.select_related("instance")
    return rows.prefetch_related(Prefetch("workers", workers, to_attr="shown"))


def engine(row: Engine) -> dict[str, Any]:
    """Return the Engine object. The row must come from `engines()` or `engines_ever()`."""
    machine = getattr(row, "instance", None)
    deleted = {"deleted_at": _time(row.deleted_at)} if row.deleted_at else {}
    return {
        **deleted,
        **_base(row.id, row.team_id, row.created_at, row.updated_at, row.visibility),
        "name": row.name,
        "status": row.status,
        "api_url": row.api_url,
        "engine_version": row.version,
        "engine_pin": row.pin,
        "capabilities": [],
        "config": _config(row),
        "instance": _instance(machine, row) if machine else None,
        "system_info": row.system_info or None,
        "workers": workers(row),
        "update": _update(row) if row.update_phase else None,
        "boot_id": row.boot_id,
    }


def _config(row: Engine) -> dict[str, Any]:
    config = {name: value for name, value in row.config.items() if type(value) is type(EMPTY_CONFIG.get(name))}
    return {**EMPTY_CONFIG, **config, "id": row.id, "name": row.name, "api_key": ""}


# Go's zero values, which the contract's clients expect where an engine said nothing.
EMPTY_CONFIG: dict[str, Any] = {
    "id": "",
    "name": "",
    "api_url": "",
    "engine_port": "",
    "workers": {"gpu": [], "cpu": {"count": 0}},
    "api_key": "",
    "container_mode": False,
    "network_name": "",
    "cache_path": "",
    "gpus": [],
    "callback_base_port": 0,
    "engine_internal_api_url": "",
}


def _update(row: Engine) -> dict[str, Any]:
    """Our own member: how far the last update is."""
    return {
        "asked": row.update_asked,
        "phase": row.update_phase,
        "version": row.update_version,
        "error": row.update_error,
    }


def _instance(row: Instance, engine: Engine) -> dict[str, Any]:
    limit = {"spend_threshold": f"{row.spend_limit:f}"} if row.spend_limit is not None else {}
    return {
        **_base(row.id, engine.team_id, row.created_at, row.updated_at),
        "cloud": row.cloud,
        "name": row.name,
        "region": row.region,
        "shade_cloud": row.cloud != "local",
        "shade_instance_type": row.instance_type,
        "cloud_instance_type": row.instance_type,
        "cloud_assigned_id": row.machine_id,
        "os": str(row.configuration.get("os") or ""),
        "ssh_key_id": "",
        "ssh_user": row.ssh_user,
        "ssh_port": row.ssh_port,
        "ip": row.ip,
        "status": row.status,
        "cost_estimate": f"{row.cost.normalize():f}",
        "hourly_price": row.hourly_price,
        "rental_type": row.rental_type,
        "template_id": "",
        "volume_ids": [],
        "tags": [],
        "configuration": row.configuration,
        "launch_configuration": None,
        "auto_delete": {"date_threshold": _time(row.delete_at), **limit},
        "alert": None,
        "volume_mount": None,
        "envs": [],
        "error": row.error,
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
        "system_info": _host(engine),
        "warm_apps": row.warm_apps,
    }


def _worker_status(engine: Engine, task: Task | None) -> WorkerStatus:
    if engine.session is None or engine.state not in CONNECTED:
        return WorkerStatus.INACTIVE
    return WorkerStatus.BUSY if task else WorkerStatus.IDLE


CONNECTED = (EngineState.RUNNING, EngineState.DRAINING, EngineState.STOPPING)


def _parts(worker: Worker, parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": f"{worker.id}-{number}", "worker_id": worker.id, **part} for number, part in enumerate(parts)]


def _host(engine: Engine) -> dict[str, Any]:
    """A worker's SystemInfo: where it is. The rest of it is the engine's."""
    known = {name: engine.system_info.get(name) for name in ("hostname", "os")}
    return {
        **EMPTY_SYSTEM_INFO,
        **{name: str(value or "") for name, value in known.items()},
        "engine_version": engine.version,
    }


EMPTY_SYSTEM_INFO = host.complete({})


def task(row: Task) -> dict[str, Any]:
    return {
        **_base(row.id, row.team_id, row.created_at, row.updated_at),
        "user_public_key": "",
        "engine_public_key": "",
        "is_featured": False,
        "status": int(row.status),
        "status_text": TaskStatus(row.status).name.lower(),
        "app_id": row.app,
        "app_version_id": "",
        "app_variant": "",
        "function": "",
        "setup": row.setup,
        "resources": row.resources,
        "input": row.input,
        "output": row.output,
        "error": row.error,
        "rating": "safe",
        "infra": row.infra or "private_first",
        "workers": row.targets,
        "on_engine_loss": row.on_engine_loss,
        "engine_id": row.engine_id,
        "worker_id": row.worker_id,
        "session_id": "",
        "progress": row.progress,
        "message": row.message,
        "waiting_for": row.waiting_for,
        "attempt": row.attempt,
        "dispatched_at": _time(row.dispatched_at),
        "started_at": _time(row.accepted_at),
        "finished_at": _time(row.finished_at),
        "events": [],
        "logs": [],
        "usage_events": [],
    }


def task_with_history(row: Task) -> dict[str, Any]:
    """Return the Task object with what happened to it, and what it wrote."""
    return {**task(row), **history(row)}


def history(row: Task) -> dict[str, Any]:
    found = list(row.events.all())
    return {
        "events": [_event(event) for event in found],
        "logs": [_log(event) for event in found if event.kind == EventKind.LOG],
    }


def task_logs(row: Task) -> dict[str, Any]:
    return {"id": row.id, "task_id": row.id, "status": int(row.status), **history(row)}


def task_timings(row: Task, at: datetime) -> dict[str, Any]:
    end = row.finished_at or at
    steps = [("queued", row.created_at), ("starting", row.dispatched_at), ("running", row.accepted_at)]
    begun = [(label, since) for label, since in steps if since is not None]
    until = [since for _, since in begun[1:]] + [end]
    moves = [
        (STATUS_AFTER[EventKind(event.kind)], event.at) for event in row.events.all() if event.kind in STATUS_AFTER
    ]
    moves += [(int(row.status), row.finished_at)] if row.finished_at else []
    return {
        "task_id": row.id,
        "status": int(row.status),
        **_lasted("total_duration", end - row.created_at),
        "groups": [
            {"label": label, "start_at": _time(since), "end_at": _time(to), **_lasted("duration", to - since)}
            for (label, since), to in zip(begun, until, strict=True)
        ],
        "events": [
            {"status": TaskStatus(status).name.lower(), "timestamp": _time(since), **_next(moves[number + 1 :], since)}
            for number, (status, since) in enumerate(moves)
        ],
    }


def _next(later: list[tuple[int, datetime]], since: datetime) -> dict[str, Any]:
    if not later:
        return {}
    status, at = later[0]
    return {"next_status": TaskStatus(status).name.lower(), **_lasted("duration", at - since)}


def _lasted(name: str, time: timedelta) -> dict[str, Any]:
    milliseconds = max(0, round(time.total_seconds() * 1000))
    seconds = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".")
    return {name: f"{seconds}s", f"{name}_ms": milliseconds}


def task_status(row: Task) -> dict[str, Any]:
    return {"id": row.id, "status": int(row.status), "updated_at": _time(row.updated_at)}


def _event(row: TaskEvent) -> dict[str, Any]:
    at = _time(row.at)
    return {
        "id": str(row.pk),
        "created_at": at,
        "event_time": at,
        "task_id": row.task_id,
        "status": STATUS_AFTER.get(EventKind(row.kind), int(TaskStatus.UNKNOWN)),
        "at": at,
        "kind": row.kind,
        "text": row.text,
        "engine_id": row.engine_id,
    }


# The status a task had once this had happened; 0 where the event is no move.
STATUS_AFTER = {
    EventKind.QUEUED: int(TaskStatus.QUEUED),
    EventKind.WAITING: int(TaskStatus.QUEUED),
    EventKind.DISPATCHED: int(TaskStatus.DISPATCHED),
    EventKind.ACCEPTED: int(TaskStatus.RUNNING),
    EventKind.REJECTED: int(TaskStatus.QUEUED),
    EventKind.REQUEUED: int(TaskStatus.QUEUED),
    EventKind.CANCELLING: int(TaskStatus.CANCELLING),
}


def _log(row: TaskEvent) -> dict[str, Any]:
    at = _time(row.at)
    return {
        "id": str(row.pk),
        "created_at": at,
        "updated_at": at,
        "task_id": row.task_id,
        "log_type": TASK_LOG,
        "content": row.text,
    }


def api_key(row: ApiKey, text: str = "") -> dict[str, Any]:
    """Return the ApiKey object; its text is shown once, by whoever has it, and masked ever after."""
    return {
        **_base(row.id, row.team_id, row.created_at, row.last_used_at or row.created_at),
        "name": row.name,
        "key": text or f"{row.prefix}…",
        "last_used_at": _time(row.last_used_at),
        "expires_at": _time(row.expires_at),
        "scopes": row.scopes,
        "grants": keys.expand(row.scopes),
        "source": "api",
        "scope": "workspace",
        "created_by": "",
    }


def ledger_entry(row: LedgerEntry) -> dict[str, Any]:
    extension = row.extension
    return {
        **_base(row.id, row.team_id, row.created_at, row.updated_at),
        "number": row.number,
        "kind": row.kind,
        "amount": row.amount_microcents,
        "balance": row.balance_microcents,
        "engine_id": row.engine_id or "",
        "api_key_id": row.key_id or "",
        "additional_hours": f"{extension.hours.normalize():f}" if extension else None,
        "date_threshold_before": _time(extension.before) if extension else None,
        "date_threshold_after": _time(extension.after) if extension else None,
        "text": row.text,
    }


def balance(row: Team) -> dict[str, Any]:
    """The contract's balance, in microcents, and how much of it is held for extensions under way."""
    return {
        "id": row.id,
        "balance": row.balance_microcents,
        "held": row.held_microcents,
        "currency": "USD",
        "status": "active" if row.balance_microcents > 0 else "empty",
    }


def me(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "user_id": "",
        "team_id": key.team_id,
        "team": team(key.team),
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


def team(row: Team) -> dict[str, Any]:
    return {"id": row.id, "type": "team", "name": row.name, "username": row.slug}


def _base(
    row_id: str, team_id: str, created_at: datetime, updated_at: datetime, visibility: str = "team"
) -> dict[str, Any]:
    return {
        "id": row_id,
        "short_id": _short(row_id),
        "created_at": _time(created_at),
        "updated_at": _time(updated_at),
        "user_id": "",
        "team_id": team_id,
        "visibility": visibility,
    }


def _short(row_id: str) -> str:
    return row_id.rpartition("_")[2][:8]


def _time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
