"""The engine's frames, read with care. What passes here can be stored on both databases."""

import json
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines import wire

MOST_DEEP = 100  # levels of JSON in a document that is kept
Id = Field(min_length=1, max_length=100)


class BadFrame(Exception):
    """A frame that is not what its type promises. The text goes into the close reason."""


class Incoming(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RunningTask(Incoming):
    task_id: str = Id
    worker_id: str = Field(default="", max_length=100)


class Result(Incoming):
    task_id: str = Id
    status: Literal["completed", "failed", "cancelled"]
    output: Any = None
    error: str = ""


class Hello(Incoming):
    boot_id: str = Field(default="", max_length=100)
    version: str = Field(default="", max_length=100)
    mode: Literal["running", "draining"] = "running"
    drain_epoch: int = Field(default=0, ge=0)
    running: list[RunningTask] = Field(default=[])
    results: list[Result] = Field(default=[])


class Heartbeat(Incoming):
    mode: Literal["running", "draining"] = "running"
    warm: dict[str, list[str]] | None = None


class TaskAccepted(Incoming):
    task_id: str = Id


class TaskRejected(Incoming):
    task_id: str = Id
    reason: str = Field(max_length=200)


class TaskUpdate(Incoming):
    task_id: str = Id
    progress: float | None = Field(default=None, ge=0, le=1)
    message: str | None = None
    log: str = ""


class Drained(Incoming):
    epoch: int = Field(ge=1)


class UpdateStatus(Incoming):
    epoch: int = Field(ge=1)
    phase: Literal["fetching", "ready", "current", "failed"]
    version: str = Field(default="", max_length=100)
    error: str = ""


KINDS: dict[str, type[Incoming]] = {
    "hello": Hello,
    "heartbeat": Heartbeat,
    "task_accepted": TaskAccepted,
    "task_rejected": TaskRejected,
    "task_update": TaskUpdate,
    "task_result": Result,
    "drained": Drained,
    "update_status": UpdateStatus,
}


def read(message: str) -> Incoming:
    """Return the frame in `message`. Raises BadFrame."""
    try:
        frame = json.loads(message, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise BadFrame("a frame is not JSON") from error
    kind = frame.get("type") if isinstance(frame, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadFrame(f"a frame of an unknown type: {str(kind)[:40]!r}")
    try:
        return KINDS[kind].model_validate(storable(frame.get("data") or {}))
    except ValidationError as error:
        where = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise BadFrame(f"{kind}: {where or 'data'} is not as agreed") from error


def storable(value: Any, deep: int = MOST_DEEP) -> Any:
    """Return `value` without what no database here takes: a result must always find its row.

    NUL and half surrogates become U+FFFD and ?, a number beyond all floats None, and so does what is nested too deep.
    """
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, list | dict):
        return value
    if not deep:
        return None
    if isinstance(value, list):
        return [storable(item, deep - 1) for item in value]
    return {storable(name): storable(item, deep - 1) for name, item in value.items()}


def text(frame: wire.Frame) -> str:
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
