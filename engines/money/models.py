"""The money side of operations. All of an operation's own columns change with its moves, in their transactions."""

from decimal import Decimal
from typing import Any, ClassVar, NoReturn, Self

from django.conf import settings
from django.db import models

from portal.accounts.models import Team
from portal.scope import TeamManager


class Outcome(models.TextChoices):
    """How an extension ended, or why it cannot: finer than the operation's state."""

    CONFIRMED = "confirmed", "Confirmed by the API’s answer"
    DISCREPANCY = "discrepancy", "Charged, but the new time is not what was asked"
    DISCREPANCY_SETTLED = "discrepancy_settled", "Charged, with another new time than asked: settled by a person"
    OBSERVED = "observed", "Seen on the engine, without an answer"
    SATISFIED = "satisfied", "Already runs that long: nothing was sent"
    OUTDATED = "outdated", "Price or time had changed: nothing was sent"
    REFUSED = "refused", "Refused by the API: nothing was charged"
    NOT_SENT = "not_sent", "Not sent: nothing was charged"
    NOT_APPLIED = "not_applied", "Did not arrive: nothing was charged"
    REFUNDED = "refunded", "Given back: the machine did not come"
    UNUSED = "unused", "Charged, but the engine did not come"
    AMBIGUOUS = "ambiguous", "Cannot be told from the readings"
    RESOLVED_APPLIED = "resolved_applied", "Settled by a person: it was charged"
    RESOLVED_NOT_APPLIED = "resolved_not_applied", "Settled by a person: it was not charged"


CHARGED = frozenset(
    {
        Outcome.CONFIRMED,
        Outcome.DISCREPANCY,
        Outcome.DISCREPANCY_SETTLED,
        Outcome.OBSERVED,
        Outcome.UNUSED,
        Outcome.RESOLVED_APPLIED,
    }
)

MAY_TRY_AGAIN = frozenset(
    {
        Outcome.OUTDATED,
        Outcome.REFUSED,
        Outcome.NOT_SENT,
        Outcome.NOT_APPLIED,
        Outcome.REFUNDED,
        Outcome.RESOLVED_NOT_APPLIED,
    }
)


class Evidence(models.TextChoices):
    """What an entry of the ledger rests on."""

    ANSWER = "A", "The API’s answer"
    READING = "B", "A reading of the engine"
    PERSON = "P", "A person’s decision"


class Extension(models.Model):
    """What an operation buys, in exact numbers, and what is known of its effect: more time, or a machine's first."""

    operation = models.OneToOneField(
        "engines.Operation", on_delete=models.CASCADE, primary_key=True, related_name="extension"
    )
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    hours = models.DecimalField(max_digits=8, decimal_places=2)
    target = models.DateTimeField()  # keep running until at least then
    seen_threshold = models.DateTimeField()
    seen_price = models.PositiveIntegerField()  # cents an hour
    cost = models.PositiveBigIntegerField()  # microcents
    retry_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="retries")
    approved_name = models.CharField(max_length=150, blank=True)
    outcome = models.CharField(max_length=20, choices=Outcome.choices, blank=True)
    before = models.DateTimeField(null=True)  # the threshold read under the lock
    after = models.DateTimeField(null=True)  # the threshold as answered or read since
    armed_at = models.DateTimeField(null=True)  # from here on it may have been sent
    armed_boot = models.FloatField(null=True)  # the same by CLOCK_BOOTTIME
    armed_by = models.CharField(max_length=200, blank=True)  # host, pid and start of the process
    unchanged = models.JSONField(default=list)  # times of readings that showed no effect, far enough apart

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    def __str__(self) -> str:
        return f"{self.hours} h"

    @property
    def is_charged(self) -> bool:
        return self.outcome in CHARGED

    @property
    def may_try_again(self) -> bool:
        """Whether it is certain that nothing was charged, and something else would be if it were asked again."""
        return self.outcome in MAY_TRY_AGAIN


class LedgerEntry(models.Model):
    """Money that was spent through the portal. Written once and never changed; it outlives what it names."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    operation_id = models.UUIDField(unique=True)  # no operation is booked twice, whoever tries
    at = models.DateTimeField()
    sent_at = models.DateTimeField()
    engine_uid = models.CharField(max_length=64)
    engine_name = models.CharField(max_length=200)
    connection_name = models.CharField(max_length=100)
    # The number stays when the person goes, as in the audit log.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.DO_NOTHING, db_constraint=False)
    user_name = models.CharField(max_length=150)
    approved_name = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=500)
    hours = models.DecimalField(max_digits=8, decimal_places=2)
    price = models.PositiveIntegerField()  # cents an hour
    cost = models.PositiveBigIntegerField()  # microcents
    before = models.DateTimeField()
    after = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, choices=Outcome.choices)
    evidence = models.CharField(max_length=1, choices=Evidence.choices)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        indexes = [
            models.Index(fields=["team", "-at", "id"]),
            models.Index(fields=["team", "engine_uid", "sent_at"]),
            models.Index(fields=["team", "user", "at"]),
        ]

    def __str__(self) -> str:
        return f"{self.hours} h for {self.engine_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("the ledger is only ever added to")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("the ledger is only ever added to")


class Amounts(models.Model):
    """How much may be spent, in microcents and hours."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True)
    operation_hours = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal(168))
    operation_cost = models.PositiveBigIntegerField(default=500 * 10**8)
    approval_cost = models.PositiveBigIntegerField(default=100 * 10**8)  # above it, a second person approves
    user_day = models.PositiveBigIntegerField(default=500 * 10**8)
    team_day = models.PositiveBigIntegerField(default=1_000 * 10**8)
    team_month = models.PositiveBigIntegerField(default=10_000 * 10**8)
    engine_hours = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal(720))

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        abstract = True


class Limits(Amounts):
    """How much a team lets be spent. A team without a row has the defaults."""

    def __str__(self) -> str:
        return f"Limits of {self.team}"


class Ceiling(Amounts):
    """How far Billing may raise each limit. Without a row, not at all."""

    def __str__(self) -> str:
        return f"Ceiling of the limits of {self.team}"


class Freeze(models.Model):
    """While the row is there nothing is spent: by the team, or by anybody if it names no team."""

    team = models.OneToOneField(Team, null=True, on_delete=models.CASCADE)
    at = models.DateTimeField()
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=500)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(models.Value(1), condition=models.Q(team__isnull=True), name="one_freeze_of_all")
        ]

    def __str__(self) -> str:
        return f"Spending is frozen since {self.at:%Y-%m-%d %H:%M} UTC by {self.by}: {self.reason.rstrip('. ')}."


class Proposal(models.Model):
    """A purchase above the limit, waiting for a second person. Approving it makes the operation of the same id."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for approval"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"

    id = models.UUIDField(primary_key=True)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    # Without one it is the order of a machine, at the key's connection.
    engine = models.ForeignKey("engines.Engine", null=True, on_delete=models.CASCADE, related_name="+")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=20)
    request_id = models.CharField(max_length=64)
    address = models.CharField(max_length=64, blank=True)
    key = models.ForeignKey("vault.StoredKey", null=True, on_delete=models.SET_NULL, related_name="+")
    reason = models.CharField(max_length=500)
    parameters = models.JSONField()
    digest = models.CharField(max_length=64)  # of all that is approved: a changed row is no longer approved
    at = models.DateTimeField()
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decided_reason = models.CharField(max_length=500, blank=True)
    batch = models.ForeignKey("engines.Batch", null=True, on_delete=models.SET_NULL, related_name="proposals")

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        indexes = [models.Index(fields=["team", "state", "-at"])]

    def __str__(self) -> str:
        return f"{'Extend' if self.engine else 'Create'} {self.engine_name}"

    @property
    def engine_name(self) -> str:
        return self.engine.name if self.engine else str(self.parameters["name"])


class DayCheck(models.Model):
    """One engine's paid time, compared over one day: how far it moved, and how much of that the ledger explains."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    engine = models.ForeignKey("engines.Engine", on_delete=models.CASCADE, related_name="+")
    day = models.DateField()
    read_at = models.DateTimeField()  # the reading that this check rests on
    # Threshold at the check before; at the first one, as the ledger knows it; null if it does not.
    begin = models.DateTimeField(null=True)
    end = models.DateTimeField()
    ledger_hours = models.DecimalField(max_digits=8, decimal_places=2)
    moved_hours = models.DecimalField(max_digits=8, decimal_places=2)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["engine", "day"], name="one_check_per_engine_and_day")]
        indexes = [models.Index(fields=["team", "-day"])]

    def __str__(self) -> str:
        return f"{self.engine} {self.day}"

    @property
    def unexplained(self) -> Decimal:
        """Hours that moved without an entry in the ledger; negative where the ledger has more."""
        return self.moved_hours - self.ledger_hours
