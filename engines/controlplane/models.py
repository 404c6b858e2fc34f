"""The control plane's truth. Everything else here may be killed at any moment and reads these rows again."""

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import models, transaction
from django.db.models import Case, Q, Value, When
from django.db.models.sql.compiler import SQLCompiler
from django.utils.timezone import now

from engines.controlplane.enums import (
    LIVE,
    EngineState,
    EntryKind,
    EventKind,
    ExtensionState,
    FollowUp,
    InstanceStatus,
    OnEngineLoss,
    UpdatePhase,
    Visibility,
)
from engines.enums import EngineStatus, TaskStatus

DATABASE = "controlplane"

atomic: Callable[[], Any] = partial(transaction.atomic, using=DATABASE)


class Written(Value):
    """A status written into the statement itself.

    SQLite uses an index that has a condition only where it can read that condition, not where it is a parameter; a
    query for the live tasks of an engine would then read all that it ever had.
    """

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, tuple[str | int, ...]]:
        return str(int(self.value)), ()


LIVE_TASK = Q(status__in=[Written(status.value) for status in LIVE])
QUEUED_TASK = Q(status=Written(TaskStatus.QUEUED.value))


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(10)}"


def team_id() -> str:
    return _id("team")


def key_id() -> str:
    return _id("key")


def engine_id() -> str:
    return _id("eng")


def worker_id() -> str:
    return _id("wrk")


def task_id() -> str:
    return _id("task")


def instance_id() -> str:
    return _id("inst")


def extension_id() -> str:
    return _id("ext")


def entry_id() -> str:
    return _id("txn")


class Team(models.Model):
    """`held_microcents` is what extensions under way may still cost; it cannot be spent twice meanwhile."""

    id = models.CharField(primary_key=True, max_length=40, default=team_id, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    balance_microcents = models.BigIntegerField(default=0)
    held_microcents = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(held_microcents__gte=0) & Q(held_microcents__lte=models.F("balance_microcents")),
                name="what_is_held_is_there",
            )
        ]

    def __str__(self) -> str:
        return self.slug


class ApiKey(models.Model):
    """A key that we issued. Only its hash is here: a copy of this table opens nothing."""

    id = models.CharField(primary_key=True, max_length=40, default=key_id, editable=False)
    team = models.ForeignKey(Team, models.CASCADE)
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)  # empty: everything
    created_at = models.DateTimeField(default=now)
    last_used_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Engine(models.Model):
    """An engine as the control plane knows it.

    `session` is set exactly while a connection is registered whose hello was reconciled: it is the permission
    to dispatch. `mode` is what the engine says of itself: one that was asked to stop on its own host takes nothing.
    """

    id = models.CharField(primary_key=True, max_length=40, default=engine_id, editable=False)
    team = models.ForeignKey(Team, models.CASCADE)
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=20, choices=EngineState, default=EngineState.PENDING)
    session = models.UUIDField(null=True)
    held_by = models.CharField(max_length=200, default="")  # the process that has the socket, host:port
    connected_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    mode = models.CharField(max_length=20, default="running")
    boot_id = models.CharField(max_length=100, default="")  # of the process that registered last
    drain_epoch = models.PositiveIntegerField(default=0)
    drained_epoch = models.PositiveIntegerField(default=0)
    named = models.BooleanField(default=False)  # by a person, whose choice outlasts what the host calls itself
    follow_up = models.CharField(max_length=10, choices=FollowUp, default=FollowUp.NOTHING)
    state_at = models.DateTimeField(default=now)  # since when it is in this state
    update_epoch = models.PositiveIntegerField(default=0)
    update_phase = models.CharField(max_length=10, choices=UpdatePhase, default=UpdatePhase.NONE)
    update_asked = models.CharField(max_length=100, default="")  # stable, canary or a tag
    update_version = models.CharField(max_length=100, default="")  # what the manifest offered
    update_error = models.TextField(default="")
    pin = models.CharField(max_length=100, default="")  # the version it is held at; empty follows stable
    visibility = models.CharField(max_length=10, choices=Visibility, default=Visibility.TEAM)
    deleted_at = models.DateTimeField(null=True)
    api_url = models.CharField(max_length=500, default="")
    version = models.CharField(max_length=100, default="")
    public_key = models.TextField(default="")
    config = models.JSONField(default=dict)
    system_info = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)
    # The contract's word. In the database, so that lists can filter and sort by it.
    status = models.GeneratedField(
        expression=Case(
            When(
                session__isnull=True,
                state__in=[EngineState.RUNNING, EngineState.DRAINING],
                then=Value(str(EngineStatus.DISCONNECTED)),
            ),
            default="state",
        ),
        output_field=models.CharField(max_length=20),
        db_persist=True,
    )

    class Meta:
        indexes = [
            models.Index(fields=["team", "-created_at", "-id"], name="engine_newest"),
            models.Index(
                fields=["team", "name", "id"],
                condition=Q(session__isnull=False, state=EngineState.RUNNING, mode="running"),
                name="engine_takes_tasks",
            ),
            models.Index(fields=["held_by"], condition=Q(session__isnull=False), name="engine_held"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=EngineState.values), name="engine_state_known"),
            models.CheckConstraint(condition=Q(drained_epoch__lte=models.F("drain_epoch")), name="engine_drained_late"),
            models.CheckConstraint(
                condition=~Q(state=EngineState.DRAINING) | Q(drain_epoch__gt=0), name="engine_draining_has_epoch"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def takes_tasks(self) -> bool:
        return self.state == EngineState.RUNNING and self.session is not None and self.mode == "running"

    @property
    def online(self) -> bool:
        return self.session is not None


class Worker(models.Model):
    id = models.CharField(primary_key=True, max_length=40, default=worker_id, editable=False)
    engine = models.ForeignKey(Engine, models.CASCADE, related_name="workers")
    kind = models.CharField(max_length=3, choices=[("gpu", "GPU"), ("cpu", "CPU")])
    index = models.PositiveIntegerField()
    gpus = models.JSONField(default=list)
    cpus = models.JSONField(default=list)
    rams = models.JSONField(default=list)
    warm_apps = models.JSONField(default=list)  # `app:version@setup`, as the engine reports it
    created_at = models.DateTimeField(default=now)
    status_at = models.DateTimeField(default=now)  # when it last became busy or idle
    retired_at = models.DateTimeField(null=True)  # the engine registered without it

    class Meta:
        indexes = [models.Index(fields=["id"], condition=~Q(warm_apps=[]), name="worker_warm")]
        constraints = [models.UniqueConstraint(fields=["engine", "kind", "index"], name="worker_once")]

    def __str__(self) -> str:
        return f"{self.kind}-{self.index}"


class Task(models.Model):
    """Something to run. It moves in engines.controlplane.tasks and nowhere else."""

    id = models.CharField(primary_key=True, max_length=40, default=task_id, editable=False)
    team = models.ForeignKey(Team, models.CASCADE)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)
    app = models.CharField(max_length=200)
    input = models.JSONField(default=dict)
    infra = models.CharField(max_length=20, default="")
    targets = models.JSONField(default=list)  # worker ids or names; empty: any
    setup = models.JSONField(default=dict)
    resources = models.JSONField(default=dict)  # {"gpu": {"type", "count", "vram"}, "ram"}, bytes
    on_engine_loss = models.CharField(max_length=10, choices=OnEngineLoss, default=OnEngineLoss.FAIL)
    status = models.PositiveSmallIntegerField(
        choices=[(status.value, status.name.lower()) for status in TaskStatus], default=TaskStatus.QUEUED
    )
    output = models.JSONField(null=True)
    error = models.TextField(default="")
    progress = models.FloatField(default=0)
    message = models.CharField(max_length=500, default="")
    waiting_for = models.CharField(max_length=40, default="")  # why a queued task is still queued
    engine = models.ForeignKey(Engine, models.PROTECT, null=True)
    worker = models.ForeignKey(Worker, models.PROTECT, null=True)
    boot_id = models.CharField(max_length=100, default="")  # the engine process that accepted it
    attempt = models.PositiveIntegerField(default=0)  # how often it was dispatched
    not_before = models.DateTimeField(default=now)  # a refused task waits a moment
    unmatched_since = models.DateTimeField(null=True)  # no active worker could ever take it
    logged = models.PositiveIntegerField(default=0)  # characters of output kept
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)
    dispatched_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["team", "-created_at", "-id"], name="task_newest"),
            models.Index(fields=["team", "created_at", "id"], condition=Q(status=TaskStatus.QUEUED), name="task_queue"),
            models.Index(fields=["engine"], condition=Q(status__in=LIVE), name="task_live"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["worker"], condition=Q(status__in=LIVE), name="one_live_task_per_worker"),
            models.CheckConstraint(
                condition=~Q(status__in=LIVE) | Q(engine__isnull=False, worker__isnull=False),
                name="a_live_task_has_a_worker",
            ),
        ]

    def __str__(self) -> str:
        return self.id


class TaskEvent(models.Model):
    """What happened to a task, in order of its id."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="events")
    at = models.DateTimeField(default=now)
    kind = models.CharField(max_length=20, choices=EventKind)
    text = models.TextField(default="")
    engine = models.ForeignKey(Engine, models.SET_NULL, null=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


class Instance(models.Model):
    """The rented machine of a cloud engine.

    `machine_id` is the provider's; without one the order may or may not have arrived, and `name`, which is ours alone,
    finds it. `delete_at` is the paid time's end: the contract's auto_delete.date_threshold.
    """

    id = models.CharField(primary_key=True, max_length=40, default=instance_id, editable=False)
    engine = models.OneToOneField(Engine, models.CASCADE, related_name="instance")
    name = models.CharField(max_length=200, unique=True)
    cloud = models.CharField(max_length=50)
    region = models.CharField(max_length=100)
    instance_type = models.CharField(max_length=100)
    rental_type = models.CharField(max_length=20, default="on_demand")
    hourly_price = models.PositiveIntegerField()  # cents
    configuration = models.JSONField(default=dict)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)  # what its engine connects with
    machine_id = models.CharField(max_length=200, default="")
    status = models.CharField(max_length=20, default=InstanceStatus.CREATING)
    ip = models.CharField(max_length=100, default="")
    ssh_user = models.CharField(max_length=100, default="")
    ssh_port = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=4, default=0)  # dollars, as the provider counts
    delete_at = models.DateTimeField()
    spend_limit = models.DecimalField(max_digits=12, decimal_places=2, null=True)  # dollars
    error = models.TextField(default="")
    tear_down = models.BooleanField(default=False)  # it shall go; asked of the provider until that says yes
    restart_asked = models.BooleanField(default=False)  # sent at most once
    missing_since = models.DateTimeField(null=True)  # the provider has known no such machine
    attempts = models.PositiveIntegerField(default=0)  # of what is being asked now
    next_at = models.DateTimeField(default=now)  # when to look at the provider again; also the lease of who looks
    ordered_at = models.DateTimeField(default=now)
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)

    class Meta:
        indexes = [models.Index(fields=["next_at"], name="instance_due", condition=~Q(status=InstanceStatus.DELETED))]

    def __str__(self) -> str:
        return self.name

    @property
    def gone(self) -> bool:
        return self.status in (InstanceStatus.DELETING, InstanceStatus.DELETED)


class Extension(models.Model):
    """Paid time that was asked for. Held: the provider has not said yes or no; the money waits with it."""

    id = models.CharField(primary_key=True, max_length=40, default=extension_id, editable=False)
    team = models.ForeignKey(Team, models.PROTECT)
    engine = models.ForeignKey(Engine, models.PROTECT)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)
    state = models.CharField(max_length=10, choices=ExtensionState, default=ExtensionState.HELD)
    hours = models.DecimalField(max_digits=20, decimal_places=10)
    hourly_price = models.PositiveIntegerField()  # cents
    cost_microcents = models.BigIntegerField()
    before = models.DateTimeField()
    after = models.DateTimeField()
    error = models.TextField(default="")
    next_at = models.DateTimeField(default=now)
    created_at = models.DateTimeField(default=now)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["engine"], condition=Q(state="held"), name="one_held_extension"),
            models.CheckConstraint(condition=Q(cost_microcents__gt=0), name="an_extension_costs"),
        ]

    def __str__(self) -> str:
        return self.id


class LedgerEntry(models.Model):
    """Every change of a balance, in order of `number`. The entries of a team add up to its balance."""

    id = models.CharField(primary_key=True, max_length=40, default=entry_id, editable=False)
    number = models.BigIntegerField()
    team = models.ForeignKey(Team, models.PROTECT)
    kind = models.CharField(max_length=10, choices=EntryKind)
    amount_microcents = models.BigIntegerField()  # negative: money that went out
    balance_microcents = models.BigIntegerField()  # after it
    engine = models.ForeignKey(Engine, models.SET_NULL, null=True)
    extension = models.OneToOneField(Extension, models.PROTECT, null=True)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)
    text = models.CharField(max_length=500, default="")
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)

    class Meta:
        indexes = [models.Index(fields=["team", "-created_at", "-id"], name="ledger_newest")]
        constraints = [models.UniqueConstraint(fields=["team", "number"], name="ledger_in_order")]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_microcents}"


class Answered(models.Model):
    """A request that carried an Idempotency-Key, and what it was answered. No status: it is under way, or died."""

    key = models.ForeignKey(ApiKey, models.CASCADE)
    text = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(default="")
    messages = models.JSONField(null=True)  # the warnings; a process of before the upgrade writes none
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "text"], name="answered_once")]

    def __str__(self) -> str:
        return self.text
