"""The contract's objects, and the messages of the engine socket. No Django here: the agent imports this too.

Objects: ENGINES_API.md section 3 (reduced to what is read or written here; unknown members pass through).
Socket: our own (section 8, "WS frames"): JSON text frames `{"type": …, "data": {…}}`, both ways, at
`GET /engines/{id}/ws` with `Authorization: Bearer <key>`, subprotocol SUBPROTOCOL.
"""

from datetime import UTC, datetime
from typing import Any, Literal, NotRequired, TypedDict

SUBPROTOCOL = "engines.v1"
HEARTBEAT_SECONDS = 15.0  # an engine is heard at least this often
DEAD_AFTER_SECONDS = 45.0  # silence after which a socket counts as dead
FRAME_LIMIT = 1024 * 1024  # bytes; a larger frame closes the socket with 1009

# Close codes of our own. On REPLACED an engine must not reconnect: a newer process took its place.
CLOSE_REPLACED = 4001
CLOSE_REFUSED = 4003  # bad hello, or the key was revoked
CLOSE_SILENT = 4008


class Worker(TypedDict, total=False):
    id: str
    index: int
    status: str  # reserved, busy, idle, inactive
    engine_id: str
    task_id: str | None
    app_id: str
    gpus: list[dict[str, Any]]
    cpus: list[dict[str, Any]]
    rams: list[dict[str, Any]]


class Engine(TypedDict, total=False):
    id: str
    name: str
    status: str
    api_url: str
    engine_version: str
    config: dict[str, Any]
    instance: dict[str, Any] | None
    # Beyond the contract, from our control plane: its word on the last update, and a mark of the engine's process.
    update: dict[str, Any] | None
    boot_id: str
    system_info: dict[str, Any] | None
    workers: list[Worker | None] | None
    created_at: str
    updated_at: str


class EnginePage(TypedDict):
    items: list[Engine]
    next_cursor: str | None
    has_next: bool


class Registration(TypedDict):
    """Body of POST /engines/register. `boot_id` is new with each process."""

    local_engine_state: dict[str, Any]  # id ("" the first time), name, config, public_key, boot_id
    api_url: str
    system_info: dict[str, Any]
    worker_config: dict[str, Any]  # {"gpu": [{"gpus": [0]}], "cpu": {"count": 2}}


class Registered(TypedDict):
    engine_id: str
    workers: list[Worker]


class Frame(TypedDict):
    type: str
    data: dict[str, Any]


# engine → control plane


class RunningTask(TypedDict):
    task_id: str
    worker_id: str


class Result(TypedDict):
    """A finished task. Kept by the engine, on disk, until `result_ack` names it."""

    task_id: str
    status: Literal["completed", "failed", "cancelled"]
    output: Any
    error: str
    started_at: str  # RFC 3339, the engine's clock
    finished_at: str


class Hello(TypedDict):
    """First frame after every connect. Nothing is dispatched or requeued before it is reconciled."""

    boot_id: str
    version: str
    mode: Literal["running", "draining"]
    drain_epoch: int  # the last one obeyed, 0 = none
    running: list[RunningTask]
    results: list[Result]


class Heartbeat(TypedDict, total=False):
    mode: Literal["running", "draining"]
    running: list[RunningTask]
    warm: dict[str, list[str]]  # worker id → apps that start there without loading, `app:version@setup`


class TaskAccepted(TypedDict):
    task_id: str


class TaskRejected(TypedDict):
    task_id: str
    reason: str  # engine_draining, worker_busy, unknown_app, worker_unknown


class TaskUpdate(TypedDict, total=False):
    task_id: str
    progress: float  # 0…1
    message: str
    log: str  # lines of output, in order


class Drained(TypedDict):
    """All workers are idle, all results acknowledged, nothing new was taken since `epoch` was obeyed."""

    epoch: int


class UpdateStatus(TypedDict):
    """How far `update(epoch)` is. `ready`: fetched, checked and tried; only a drain and the restart are left."""

    epoch: int  # of the update
    phase: Literal["fetching", "ready", "current", "failed"]  # current: the manifest has nothing newer
    version: str  # what the manifest offers, "" while that is unknown
    error: str  # for a person; "" unless failed. The old version runs on


# control plane → engine


class Welcome(TypedDict):
    """The hello was reconciled: work may follow."""

    engine_id: str


class Assign(TypedDict):
    """Frame type `task`."""

    task_id: str
    worker_id: str
    app: str
    input: dict[str, Any]
    setup: NotRequired[dict[str, Any]]


class ResultAck(TypedDict):
    task_id: str


class Drain(TypedDict):
    epoch: int


class Cancel(TypedDict):
    task_id: str


class Shutdown(TypedDict):
    """Answer to `drained`: it is recorded, the process may exit 0."""

    epoch: int


class Update(TypedDict):
    """Get ready for another version. Sent again after each reconnect until it is settled."""

    epoch: int
    version: str  # "stable", "canary" or a tag such as v1.9.3
    manifest_url: str


class Restart(TypedDict):
    """Answer to `drained` where an update asked for the drain: swap the binary and start again in its place."""

    epoch: int  # of the drain


# Frame types, by direction.
ENGINE_FRAMES = (
    "hello",
    "heartbeat",
    "task_accepted",
    "task_rejected",
    "task_update",
    "task_result",
    "drained",
    "update_status",
)
SERVER_FRAMES = ("welcome", "task", "result_ack", "drain", "cancel", "shutdown", "update", "restart")


# A header of a stop: "true" has an engine that lost its connection left alone (409 engine_offline), with what it runs.
# An API that does not know it stops such an engine at once.
ONLY_IF_CONNECTED = "X-Only-If-Connected"


def moment(text: Any) -> datetime | None:
    """Return an API's RFC 3339 time; None for what is none, Go's zero time included."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if found is None or found.year < 1970 or found.year > 9000:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
