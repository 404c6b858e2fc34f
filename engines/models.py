"""The fleet as last read, and what people asked of it."""

import uuid
from datetime import timedelta
from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from engines.enums import OPEN, State, Verb
from engines.money.models import Ceiling, DayCheck, Extension, Freeze, LedgerEntry, Limits, Proposal
from portal.accounts.models import Team
from portal.scope import TeamManager
from portal.vault.models import Connection, StoredKey

__all__ = [
    "Automation",
    "Ceiling",
    "Change",
    "DayCheck",
    "Engine",
    "Extension",
    "Freeze",
    "LedgerEntry",
    "Limits",
    "Moment",
    "Operation",
    "Proposal",
]


QUEUED = Q(behind__isnull=False, released_at__isnull=True)  # behind another operation, if it is open


class Engine(models.Model):
    """The last snapshot of an engine. `wire` is the contract's Engine as read, secrets removed.

    A row is written only when something changed: how fresh it is, is the later of `observed_at` and the
    connection's `refreshed_at` (see `engines.snapshots.seen_at`).
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="engines")
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="engines")
    uid = models.CharField(max_length=64)  # the API's id
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=40)  # EngineStatus, or an unknown word verbatim
    version = models.CharField(max_length=60, blank=True)
    hostname = models.CharField(max_length=200, blank=True)
    gpu = models.CharField(max_length=100, blank=True)  # name of the first GPU, "" = CPU only
    cloud = models.CharField(max_length=60, blank=True)  # provider, "" = self-hosted
    workers_total = models.PositiveIntegerField(default=0)
    workers_busy = models.PositiveIntegerField(default=0)
    wire = models.JSONField(default=dict)
    fingerprint = models.CharField(
        max_length=32
    )  # of what is not merely a meter reading: a pass writes rows whose own differs
    created_at = models.DateTimeField()  # the API's
    observed_at = models.DateTimeField()  # when the values here were read
    changed_at = models.DateTimeField()  # when `status` last changed, as we saw it
    missing_since = models.DateTimeField(null=True)  # first full pass that did not list it

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "uid"], name="one_row_per_engine")]
        indexes = [
            models.Index(fields=["team", "name", "id"]),
            models.Index(fields=["team", "status", "name", "id"]),
            models.Index(fields=["team", "version", "id"]),
            models.Index(fields=["team", "-workers_busy", "id"]),
            models.Index(fields=["team", "-changed_at", "id"]),
        ]

    def __str__(self) -> str:
        return self.name


class Batch(models.Model):
    """One wish for many engines, confirmed once. `not_asked` has the others, with why: [{"uid", "name", "why"}]."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="batches")
    verb = models.CharField(max_length=20, choices=Verb.choices)
    reason = models.CharField(max_length=500)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    requested_name = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    patience = models.DurationField(default=timedelta(hours=2))  # from an engine's turn to its deadline
    not_asked = models.JSONField(default=list)
    in_turn = models.BooleanField(default=False)  # some of it waits until others are back
    despite_guard = models.BooleanField(default=False)  # what the guard objects to was agreed to
    retry_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="retries")

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        indexes = [
            models.Index(fields=["team", "-requested_at", "id"]),
            models.Index(fields=["in_turn"], condition=Q(in_turn=True), name="batches_in_turn"),
        ]

    def __str__(self) -> str:
        return "Order of many machines" if self.verb == Verb.CREATE else f"{self.get_verb_display()} of many engines"


class Operation(models.Model):
    """One requested action on one engine: who, why, with which key, until when, and how far it is.

    A creation has no engine until the API has named one; `new_at` is where it is to be.
    State moves only through `engines.operations.moves.move`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="operations")
    engine = models.ForeignKey(Engine, null=True, on_delete=models.CASCADE, related_name="operations")
    engine_name = models.CharField(max_length=200)
    new_at = models.ForeignKey(Connection, null=True, on_delete=models.CASCADE, related_name="+")
    verb = models.CharField(max_length=20, choices=Verb.choices)
    state = models.CharField(max_length=20, choices=State.choices, default=State.REQUESTED)
    parameters = models.JSONField(default=dict)
    reason = models.CharField(max_length=500)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    requested_name = models.CharField(max_length=150)
    role = models.CharField(max_length=20)
    batch = models.ForeignKey(Batch, null=True, on_delete=models.SET_NULL, related_name="operations")
    retry_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="retries")
    # What it was queued behind, on the same engine, and when that had ended: until then nothing is done with it.
    behind = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="followers")
    released_at = models.DateTimeField(null=True)
    request_id = models.CharField(max_length=64)
    address = models.CharField(max_length=64, blank=True)
    key = models.ForeignKey(StoredKey, null=True, on_delete=models.SET_NULL, related_name="+")
    key_label = models.CharField(max_length=120)
    requested_at = models.DateTimeField()
    deadline_at = models.DateTimeField()  # a notice, never a kill
    note = models.CharField(max_length=300, blank=True)  # why it is in this state, in words a person can act on
    progress = models.JSONField(default=dict)  # what it waits for, as last read
    answer = models.JSONField(default=dict)  # the API's last answer to it, redacted
    moved_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    # Who works on it: a lease that a sweep takes over, and a fence that stops the one who was too slow.
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    next_at = models.DateTimeField(null=True)  # when somebody must look at it; null when finished
    attempts = models.PositiveIntegerField(default=0)  # sends
    sent_at = models.DateTimeField(null=True)  # a reading begun before this proves nothing about it
    told_at = models.DateTimeField(null=True)  # when people were written to, as it stayed unknown

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["engine"],
                condition=Q(state__in=sorted(OPEN)) & ~Q(verb="extend") & ~QUEUED,
                name="one_open_operation_per_engine",
            ),
            models.UniqueConstraint(
                fields=["engine"], condition=Q(QUEUED, state__in=sorted(OPEN)), name="one_queued_operation_per_engine"
            ),
            models.UniqueConstraint(
                fields=["engine"],
                condition=Q(state__in=sorted(OPEN), verb="extend"),
                name="one_open_purchase_per_engine",
            ),
            models.CheckConstraint(
                condition=Q(engine__isnull=False) | Q(new_at__isnull=False), name="an_engine_or_a_place_for_one"
            ),
        ]
        indexes = [
            models.Index(fields=["team", "-requested_at", "id"]),
            models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="operations_due"),
            models.Index(fields=["batch", "engine_name", "id"]),
            models.Index(fields=["state", "moved_at"], condition=Q(finished_at__isnull=True), name="operations_open"),
        ]

    def __str__(self) -> str:
        return f"{self.get_verb_display()} {self.engine_name}"

    @property
    def uid(self) -> str:
        """The engine's id at the API; "" while there is none."""
        return self.engine.uid if self.engine else ""

    @property
    def is_queued(self) -> bool:
        """Whether it waits for another operation to end."""
        return self.state == State.WAITING and self.behind_id is not None and self.released_at is None

    @property
    def waits_for_turn(self) -> bool:
        """Whether the batch that it is of has not come to it yet."""
        return self.state == State.REQUESTED and self.next_at is None

    @property
    def standing(self) -> str:
        return "Queued" if self.is_queued else str(self.get_state_display())

    @property
    def its_engine(self) -> Engine:
        """The engine, of all but a creation that has none yet."""
        assert self.engine is not None
        return self.engine

    @property
    def connection(self) -> Connection:
        found = self.engine.connection if self.engine else self.new_at
        assert found is not None  # as the constraint has it
        return found


class Moment(models.Model):
    """One line of an operation's timeline."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="moments")
    at = models.DateTimeField()
    state = models.CharField(max_length=20, choices=State.choices)
    text = models.CharField(max_length=300, blank=True)
    reason = models.CharField(max_length=500, blank=True)  # of the person who decided it

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.state}: {self.text}"


class Change(models.Model):
    """One line of an engine's history: a status we saw it take, whoever caused it."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    engine = models.ForeignKey(Engine, on_delete=models.CASCADE, related_name="changes")
    at = models.DateTimeField()
    before = models.CharField(max_length=40, blank=True)
    after = models.CharField(max_length=40)
    operation = models.ForeignKey(Operation, null=True, on_delete=models.SET_NULL, related_name="+")

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        indexes = [models.Index(fields=["engine", "-id"])]

    def __str__(self) -> str:
        return f"{self.before} → {self.after}"


class Automation(models.Model):
    """When each worker process was last seen at work: the page says so when nothing runs."""

    worker = models.CharField(max_length=150, primary_key=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.worker
