"""POST /engines/register: an engine process makes itself known. Contract 2.1 #16, 7.2 and 7.3."""

import re
from typing import Any

from django.db.models import Q
from django.utils.timezone import now

from engines.controlplane import host, problems, update
from engines.controlplane.enums import EngineState, FollowUp, InstanceStatus
from engines.controlplane.frames import storable
from engines.controlplane.models import Engine, Instance, Team, Worker, atomic
from engines.controlplane.schemas import RegisterIn, WorkerConfig
from engines.controlplane.wakeups import DISPATCHER, seen, wake

GONE = (InstanceStatus.DELETING, InstanceStatus.DELETED)
DEFAULT_CPU_WORKERS = 2  # contract 7.3, when no GPU worker is configured


# The contract's EngineConfig without `api_key`: what an engine should not have sent is not kept.
CONFIG = (
    "id",
    "name",
    "api_url",
    "engine_port",
    "workers",
    "container_mode",
    "network_name",
    "cache_path",
    "gpus",
    "callback_base_port",
    "engine_internal_api_url",
)


def register(team: Team, asked: RegisterIn) -> Engine:
    """Create the engine, or refresh the one whose id it saved, and return it.

    A stopped engine runs again if this is a new process. A draining one goes on draining: that was a promise.
    Raises Problem 404 if the id is not one of the team's.
    """
    known = asked.local_engine_state
    with atomic():
        engine = _find(team, known.id) if known.id else Engine(team=team)
        _refresh(engine, asked)
        engine.save()
        _set_workers(engine, asked.worker_config)
        wake(engine.id, DISPATCHER, *seen(engine.id, team.id))
    return engine


def _find(team: Team, engine_id: str) -> Engine:
    engine = (
        Engine.objects.select_for_update(no_key=True).filter(pk=engine_id, team=team, deleted_at__isnull=True).first()
    )
    if engine is None:
        raise problems.not_found("engine")
    return engine


def _refresh(engine: Engine, asked: RegisterIn) -> None:
    known = asked.local_engine_state
    system_info = storable(asked.system_info)
    new_process = not known.boot_id or known.boot_id != engine.boot_id
    engine.boot_id = known.boot_id
    engine.name = engine.name if engine.named else known.name
    engine.public_key = known.public_key
    engine.config = {name: value for name, value in storable(known.config).items() if name in CONFIG}
    engine.api_url = asked.api_url
    engine.system_info = host.complete(system_info) if system_info else {}
    engine.version = str(system_info.get("engine_version") or engine.version)[:100]
    engine.updated_at = now()
    if new_process:
        _new_process(engine)


def _new_process(engine: Engine) -> None:
    """Let go of the connection of the process before, which is gone or has to go."""
    engine.session, engine.held_by, engine.mode = None, "", "running"
    before = engine.state
    updating = engine.state == EngineState.DRAINING and engine.follow_up == FollowUp.UPDATE
    if engine.state == EngineState.RESTARTING or updating:
        update.came_back(engine)
    elif engine.state == EngineState.STOPPED and not _given_back(engine):
        engine.state, engine.follow_up = EngineState.RUNNING, FollowUp.NOTHING
    if engine.state != before:
        engine.state_at = now()


def _given_back(engine: Engine) -> bool:
    """Whether its machine is on its way out: then a process of it that comes up once more is stopped again."""
    return Instance.objects.filter(engine=engine).filter(Q(tear_down=True) | Q(status__in=GONE)).exists()


def _set_workers(engine: Engine, config: WorkerConfig) -> None:
    """Make the rows as configured. Workers keep their ids over restarts; one that is no longer there is retired."""
    rows = {(worker.kind, worker.index): worker for worker in Worker.objects.filter(engine=engine)}
    wanted = _wanted(engine, config)
    for place, hardware in wanted.items():
        worker = rows.get(place) or Worker(engine=engine, kind=place[0], index=place[1])
        for name, value in hardware.items():
            setattr(worker, name, value)
        worker.retired_at = None
        worker.save()
    gone = [worker.pk for place, worker in rows.items() if place not in wanted]
    Worker.objects.filter(pk__in=gone, retired_at__isnull=True).update(retired_at=now())


def _wanted(engine: Engine, config: WorkerConfig) -> dict[tuple[str, int], dict[str, Any]]:
    info = engine.system_info
    cpus = {"gpus": [], "cpus": _cpus(info), "rams": _rams(info)}
    count = config.cpu.count if config.cpu.count or config.gpu else DEFAULT_CPU_WORKERS
    gpus = {
        ("gpu", index): {**cpus, "gpus": [_gpu(info, number) for number in entry.gpus]}
        for index, entry in enumerate(config.gpu)
    }
    return {**gpus, **{("cpu", index): cpus for index in range(count)}}


def _gpu(info: dict[str, Any], number: int) -> dict[str, Any]:
    found = next((gpu for gpu in _items(info, "gpus") if gpu.get("index") == number), {})
    return {
        "gpu_id": str(found.get("id") or number),
        "type": _maker(found),
        "name": str(found.get("name") or f"GPU {number}"),
        "vram": found.get("memory_total") or 0,
    }


MAKERS = {
    "nvidia": r"nvidia|geforce|quadro|tesla|\brtx\b",
    "amd": r"\bamd\b|\bati\b|radeon|instinct|firepro",
    "intel": r"intel|\barc\b|iris|gaudi",
    "apple": r"apple",
}


def _maker(gpu: dict[str, Any]) -> str:
    """Return the contract's GPUType, by what the GPU is called; "any" where nothing says it."""
    name = str(gpu.get("name") or "")
    for maker, words in MAKERS.items():
        if re.search(words, name, re.IGNORECASE):
            return maker
    # Our own engine asks nvidia-smi alone, for which not every name says whose it is.
    return "nvidia" if gpu.get("cuda_version") or gpu.get("driver_version") else "any"


def _cpus(info: dict[str, Any]) -> list[dict[str, Any]]:
    fields = ("name", "vendor_id", "family", "model", "cores", "frequency")
    return [{name: cpu.get(name) for name in fields if name in cpu} for cpu in _items(info, "cpus")]


def _rams(info: dict[str, Any]) -> list[dict[str, Any]]:
    ram = info.get("ram")
    return [{"total": ram["total"]}] if isinstance(ram, dict) and "total" in ram else []


def _items(info: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Hardware as the engine reported it: a list of objects, if it is one."""
    value = info.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
