"""What requests must look like, and what answers do: the source of /openapi.json."""

from datetime import datetime
from typing import Any, Literal

from ninja import Schema
from pydantic import BaseModel, Field

from engines.controlplane.enums import Infra, OnEngineLoss

MOST_TARGETS = 100
Text = Field(default="", max_length=200)


# Requests. Not ninja's Schema: that one reads attributes off anything, and takes a text for an object.


class CpuWorkers(BaseModel):
    count: int = Field(default=0, ge=0, le=256)


class GpuWorker(BaseModel):
    gpus: list[int] = Field(min_length=1, max_length=64)


class WorkerConfig(BaseModel):
    gpu: list[GpuWorker] = Field(default=[], max_length=256)
    cpu: CpuWorkers = CpuWorkers()


class LocalEngineState(BaseModel):
    id: str = Field(default="", max_length=40, description="Empty the first time; then the id that was given.")
    name: str = Field(min_length=1, max_length=200)
    config: dict[str, Any] = {}
    public_key: str = Field(default="", max_length=10_000)
    boot_id: str = Field(default="", max_length=100, description="New with each process.")


class RegisterIn(BaseModel):
    local_engine_state: LocalEngineState
    api_url: str = Field(default="", max_length=500)
    system_info: dict[str, Any] = {}
    worker_config: WorkerConfig = WorkerConfig()


class Search(BaseModel):
    term: str = Text
    exact: bool = False


class Filter(BaseModel):
    field: str = Field(max_length=100)
    operator: str = Field(default="eq", max_length=20)
    value: Any = None


class Sort(BaseModel):
    field: str = Field(max_length=100)
    dir: Literal["asc", "desc"] = "asc"


class ListIn(BaseModel):
    """Members of the contract's CursorListRequest that are not here are accepted and change nothing."""

    cursor: str | None = Field(default="", max_length=2000)
    limit: int | None = Field(default=20, ge=0, le=1_000_000, description="0 means 20; more than 100 means 100.")
    search: Search | None = None
    filters: list[Filter] | None = Field(default=None, max_length=20)
    sort: list[Sort] | None = Field(default=None, max_length=5)
    fields_: list[str] | None = Field(default=None, alias="fields", max_length=100)


class ListQuery(BaseModel):
    """The same in a query string: objects and lists as JSON text."""

    cursor: str = Field(default="", max_length=2000)
    limit: int = Field(default=20, ge=0, le=1_000_000)
    search: str = Field(default="", max_length=2000)
    filters: str = Field(default="", max_length=10_000)
    sort: str = Field(default="", max_length=2000)
    fields_: str = Field(default="", alias="fields", max_length=5000)


class RunIn(BaseModel):
    app: str = Field(min_length=1, max_length=200)
    input: dict[str, Any] = {}
    infra: Infra | None = Field(default=None, description="Without it: any engine of the team.")
    workers: list[str] | None = Field(
        default=None, max_length=MOST_TARGETS, description="Worker ids, or names such as my-server-gpu-0."
    )
    on_engine_loss: OnEngineLoss = Field(
        default=OnEngineLoss.FAIL, description="What becomes of the task if its engine's process dies under it."
    )


# Answers


class ProblemOut(Schema):
    """RFC 9457. `X-API-Version: 1` and no version header add or use the contract's other forms."""

    type: str
    title: str
    status: int
    detail: str
    meta: dict[str, Any] = {}
    request_id: str = ""


class WorkerOut(Schema):
    id: str
    short_id: str
    created_at: datetime
    updated_at: datetime
    user_id: str
    team_id: str
    index: int
    status: str
    status_updated_at: datetime
    heartbeat_at: datetime | None
    engine_id: str
    task_id: str | None
    app_id: str
    app_version_id: str
    gpus: list[dict[str, Any]]
    cpus: list[dict[str, Any]]
    rams: list[dict[str, Any]]
    warm_apps: list[str]


class Base(Schema):
    id: str
    short_id: str
    created_at: datetime
    updated_at: datetime
    user_id: str
    team_id: str
    visibility: str


class EngineOut(Base):
    name: str
    status: str
    api_url: str
    engine_version: str
    engine_pin: str
    capabilities: list[str] | None
    config: dict[str, Any]
    instance: dict[str, Any] | None
    system_info: dict[str, Any] | None
    workers: list[WorkerOut]


class Page(Schema):
    next_cursor: str | None
    prev_cursor: str | None
    has_next: bool
    has_previous: bool
    items_per_page: int


class EnginePageOut(Page):
    items: list[EngineOut]


class RegisteredOut(Schema):
    engine_id: str
    workers: list[WorkerOut]


class TaskEventOut(Schema):
    at: datetime
    kind: str
    text: str
    engine_id: str | None


class TaskOut(Base):
    status: int
    app: str
    app_id: str
    input: dict[str, Any]
    output: Any
    error: str
    infra: str
    workers: list[str]
    on_engine_loss: str
    engine_id: str | None
    worker_id: str | None
    progress: float
    message: str
    waiting_for: str
    attempt: int
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


class TaskWithHistoryOut(TaskOut):
    events: list[TaskEventOut]


class TaskPageOut(Page):
    items: list[TaskOut]


class TeamOut(Schema):
    id: str
    type: str
    name: str
    username: str


class KeyOut(Schema):
    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class MeOut(Schema):
    id: str
    user_id: str
    team_id: str
    team: TeamOut
    key: KeyOut


class HealthOut(Schema):
    status: str
