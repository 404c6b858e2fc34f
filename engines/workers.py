"""The workers of an engine's snapshot, as pages and verbs want them."""

from dataclasses import dataclass
from datetime import datetime

from engines import wire
from engines.enums import WorkerStatus
from engines.models import Engine
from engines.wire import moment

GIB = 1024**3


@dataclass(frozen=True)
class Worker:
    index: int
    kind: str  # gpu or cpu
    name: str  # the name that tasks can be aimed at, contract 7.3
    status: str
    task_id: str
    app: str
    since: datetime | None  # when the task started, where the API says so
    hardware: str

    @property
    def busy(self) -> bool:
        return bool(self.task_id) or self.status in (WorkerStatus.BUSY, WorkerStatus.RESERVED)

    def as_blocker(self) -> dict[str, str]:
        """What an operation waits for, as JSON."""
        since = self.since.isoformat() if self.since else ""
        return {"task_id": self.task_id, "app": self.app, "worker": self.name, "since": since}


def workers_of(engine: Engine) -> list[Worker]:
    """Return the workers in the API's order. A null list reads as empty and null elements are skipped."""
    return [_read(item, engine.name) for item in engine.wire.get("workers") or [] if item]


def _read(item: wire.Worker, engine_name: str) -> Worker:
    kind = "gpu" if item.get("gpus") else "cpu"
    task_id = item.get("task_id") or ""
    index = int(item.get("index") or 0)
    return Worker(
        index=index,
        kind=kind,
        name=f"{engine_name}-{kind}-{index}",
        status=item.get("status") or "unknown",
        task_id=task_id,
        app=item.get("app_id") or "",
        since=moment(item.get("status_updated_at")) if task_id else None,
        hardware=_hardware(item),
    )


def _hardware(item: wire.Worker) -> str:
    gpus = [f"{gpu.get('name') or 'GPU'} {int(gpu.get('vram') or 0) // GIB} GB" for gpu in item.get("gpus") or []]
    cpus = [f"{cpu.get('cores') or '?'} × {cpu.get('name') or 'CPU'}" for cpu in item.get("cpus") or []]
    return ", ".join(gpus or cpus)
