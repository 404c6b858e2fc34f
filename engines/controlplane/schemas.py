"""What requests must look like, and what answers do: the source of /openapi.json."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, field_validator

from engines.controlplane.enums import Infra, OnEngineLoss, Visibility

MOST_TARGETS = 100
Text = Field(default="", max_length=200)


def in_the_calendar(moment: datetime) -> datetime:
    """Return the time if it can be kept, and read again in every zone. Raises ValueError."""
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this time is beyond the calendar") from error
    if not 1 < utc.year < 9999:
        raise ValueError("this time is beyond the calendar")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(in_the_calendar)]


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


class GpuNeed(BaseModel):
    type: Literal["any", "none", "intel", "nvidia", "amd", "apple"] = "any"
    count: int = Field(default=0, ge=0, le=64)
    vram: int = Field(
        default=0, ge=0, le=2**50, description="Of all its GPUs together. Below 1,000: GB, below 1e9: MB, else bytes."
    )


class Resources(BaseModel):
    """What a worker must have. A GPU type other than any or none asks for at least one."""

    gpu: GpuNeed = GpuNeed()
    ram: int = Field(default=0, ge=0, le=2**50, description="Units as for vram.")


class RunIn(BaseModel):
    """Members of the hosted API's run request that are not here are accepted and change nothing."""

    app: str = Field(min_length=1, max_length=200)
    input: dict[str, Any] = {}
    setup: dict[str, Any] = Field(
        default={}, description="Kept with the task and sent to the engine. The apps that come with ours have none."
    )
    resources: Resources = Resources()
    infra: Infra | None = Field(default=None, description="Without it: any engine of the team.")
    workers: list[str] | None = Field(
        default=None, max_length=MOST_TARGETS, description="Worker ids, or names such as my-server-gpu-0."
    )
    on_engine_loss: OnEngineLoss = Field(
        default=OnEngineLoss.FAIL, description="What becomes of the task if its engine's process dies under it."
    )

    @field_validator("input", "setup", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return {} if value is None else value


class AutoDelete(BaseModel):
    date_threshold: Moment | None = Field(default=None, description="When the paid time ends.")
    spend_threshold: Decimal | None = Field(
        default=None, gt=0, le=10_000_000, max_digits=12, decimal_places=2, description="Dollars, as text."
    )


class InstanceIn(BaseModel):
    cloud: str = Field(min_length=1, max_length=50)
    region: str = Field(min_length=1, max_length=100)
    shade_instance_type: str = Field(min_length=1, max_length=100)
    rental_type: Literal["on_demand", "spot"] = "on_demand"
    auto_delete: AutoDelete | None = None


class CreateIn(BaseModel):
    """Without an instance: a record for an engine of your own, which registers with its id."""

    name: str = Field(min_length=1, max_length=200)
    visibility: Visibility = Visibility.TEAM
    instance: InstanceIn | None = None
    auto_delete: AutoDelete | None = None


class EditIn(BaseModel):
    """What can be edited. Other members of an Engine are accepted and change nothing: money and state have verbs."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    visibility: Visibility | None = None


class UpdateIn(BaseModel):
    version: str = Field(default="", max_length=100, description="stable, canary or a tag; empty means stable.")


class ExtendIn(BaseModel):
    additional_hours: Any = Field(default=None, description="A number greater than 0. Required.")


class VisibilityIn(BaseModel):
    visibility: Visibility


class TransferIn(BaseModel):
    team_id: str = Field(min_length=1, max_length=40)


class ResourcesIn(BaseModel):
    """Either apps or, as newer documentation has it, what they need.

    This server has no catalogue of apps that would say what one needs: `app_ids` and `agent_ids` narrow nothing.
    """

    app_ids: list[str] | None = Field(default=None, max_length=100)
    agent_ids: list[str] | None = Field(default=None, max_length=100)
    gpu: GpuNeed = GpuNeed()
    ram: int = Field(default=0, ge=0, le=2**50)


class KeyIn(BaseModel):
    name: str = Field(min_length=1, max_length=200)
    scopes: list[str] = Field(default=[], max_length=50, description="Empty: all that the calling key may do.")
    expires_at: Moment | None = Field(
        default=None, description="Not after the calling key's own end, which is also the default."
    )
    scope: Literal["user", "workspace"] = "workspace"

    @field_validator("scopes", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return [] if value is None else value


class TypesQuery(BaseModel):
    cloud: str = Text
    region: str = Text
    gpu_type: str = Text
    num_gpus: str = Text
    available: str = Text
    shade_instance_type: str = Text
    rental_type: str = Text
    sort: str = Field(default="", max_length=20, description="price; anything else keeps the provider's order.")


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
    system_info: dict[str, Any]
    warm_apps: list[str]


class Base(Schema):
    id: str
    short_id: str
    created_at: datetime
    updated_at: datetime
    user_id: str
    team_id: str
    visibility: str


class InstanceOut(Base):
    cloud: str
    name: str
    region: str
    shade_cloud: bool
    shade_instance_type: str
    cloud_instance_type: str
    cloud_assigned_id: str
    ssh_user: str
    ssh_port: int
    ip: str
    status: str
    cost_estimate: str
    hourly_price: int
    rental_type: str
    configuration: dict[str, Any]
    auto_delete: dict[str, Any]
    error: str


class UpdateOut(Schema):
    """How far the last update is: asked, fetching, ready, current, done or failed."""

    asked: str
    phase: str
    version: str
    error: str


class EngineOut(Base):
    name: str
    status: str
    api_url: str
    engine_version: str
    engine_pin: str
    capabilities: list[str]
    config: dict[str, Any]
    instance: InstanceOut | None
    system_info: dict[str, Any] | None
    workers: list[WorkerOut]
    update: UpdateOut | None
    boot_id: str = Field(description="Of the engine's process: new with each start. Beyond the contract.")


class ChangedEngineOut(EngineOut):
    deleted_at: datetime | None = Field(default=None, description="There once it was deleted, and the last of it.")


class Part(Schema):
    """The members of an object that `fields` asked for, and its id."""

    id: str


class Page(Schema):
    next_cursor: str
    prev_cursor: str
    has_next: bool
    has_previous: bool
    items_per_page: int


class EnginePageOut(Page):
    items: list[EngineOut | Part]


class RegisteredOut(Schema):
    engine_id: str
    workers: list[WorkerOut]


class ReleaseOut(Schema):
    version: str
    release_date: str


class ReleasesOut(Schema):
    stable: ReleaseOut | None
    canary: ReleaseOut | None


class TaskEventOut(Schema):
    id: str
    created_at: datetime
    event_time: datetime
    task_id: str
    status: int
    kind: str
    text: str
    engine_id: str | None


class TaskLogOut(Schema):
    id: str
    created_at: datetime
    updated_at: datetime
    task_id: str
    log_type: int
    content: str


class TaskOut(Base):
    status: int
    status_text: str
    app_id: str
    input: dict[str, Any]
    setup: dict[str, Any]
    resources: dict[str, Any]
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
    events: list[TaskEventOut]
    logs: list[TaskLogOut]


class TaskPageOut(Page):
    items: list[TaskOut | Part]


class TaskStatusOut(Schema):
    id: str
    status: int
    updated_at: datetime


class TimingGroupOut(Schema):
    label: str
    start_at: datetime
    end_at: datetime
    duration: str
    duration_ms: int


class TimingEventOut(Schema):
    status: str
    timestamp: datetime
    duration: str = ""
    duration_ms: int = 0
    next_status: str = ""


class TaskTimingsOut(Schema):
    task_id: str
    status: int
    total_duration: str
    total_duration_ms: int
    groups: list[TimingGroupOut]
    events: list[TimingEventOut]


class TaskLogsOut(Schema):
    task_id: str
    status: int
    events: list[TaskEventOut]
    logs: list[TaskLogOut]


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


class ApiKeyOut(Base):
    name: str
    key: str = Field(description="The key itself, in the answer that makes it and never again.")
    last_used_at: datetime | None
    expires_at: datetime | None
    scopes: list[str]
    grants: list[str]
    source: str
    scope: str
    created_by: str


class ApiKeyPageOut(Page):
    items: list[ApiKeyOut | Part]


class ScopeOut(Schema):
    value: str
    label: str
    description: str
    group: str
    sign_in_only: bool
    not_for_apps: bool
    costs_credits: bool


class ScopeGroupOut(Schema):
    id: str
    label: str
    description: str
    public_rows: bool
    staff_only: bool


class ScopePresetOut(Schema):
    id: str
    label: str
    description: str
    scopes: list[str]
    grants: list[str]
    default: bool


class ScopesOut(Schema):
    scopes: list[ScopeOut]
    groups: list[ScopeGroupOut]
    presets: list[ScopePresetOut]
    account_scopes: list[ScopeOut]
    account_groups: list[ScopeGroupOut]
    login_preset: ScopePresetOut


class BalanceOut(Schema):
    """Microcents: 100,000,000 are a dollar."""

    balance: int
    held: int
    currency: str
    status: str


class LedgerEntryOut(Base):
    number: int
    kind: str
    amount: int
    balance: int
    engine_id: str
    api_key_id: str
    additional_hours: str | None
    date_threshold_before: datetime | None
    date_threshold_after: datetime | None
    text: str


class LedgerPageOut(Page):
    items: list[LedgerEntryOut | Part]


class InstanceTypeOut(Schema):
    """ENGINES_API.md 3.7. Members that a provider adds pass through."""

    id: str
    cloud: str
    region: str
    shade_instance_type: str
    cloud_instance_type: str
    deployment_type: str
    hourly_price: int
    configuration: dict[str, Any] | None = None
    availability: list[dict[str, Any]]


class HealthOut(Schema):
    status: str
