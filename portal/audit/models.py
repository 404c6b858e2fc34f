"""The append-only log. `portal.audit.record` is its only writer."""

from typing import ClassVar, Self

from django.conf import settings
from django.db import models

from portal.accounts.models import Team
from portal.scope import TeamManager


class Head(models.Model):
    """The end of a team's chain. Locked while an entry is appended, so that numbers have no gaps."""

    team = models.OneToOneField(Team, on_delete=models.PROTECT, primary_key=True)
    number = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)
    at = models.DateTimeField(null=True)
    checkpoints = models.PositiveBigIntegerField(default=0)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    def __str__(self) -> str:
        return f"#{self.number} {self.hash[:12]}"


class Entry(models.Model):
    """Who did what to what, why, from where, with which outcome. Names are text: entries outlive their subjects."""

    class Outcome(models.TextChoices):
        OK = "ok", "OK"
        REFUSED = "refused", "Refused"
        FAILED = "failed", "Failed"
        UNKNOWN = "unknown", "Unknown"

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    number = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    # The number stays when the person goes: it is part of the hash, so setting it to null would break the chain.
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.DO_NOTHING, db_constraint=False)
    actor_name = models.CharField(max_length=150)
    role = models.CharField(max_length=20, blank=True)
    address = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=60)
    target_type = models.CharField(max_length=60)
    target_id = models.CharField(max_length=64)
    target_name = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.OK)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    detail = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True)
    operation_id = models.CharField(max_length=64, blank=True)
    prev_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "number"], name="one_entry_per_number")]
        indexes = [
            models.Index(fields=["team", "-number"]),
            models.Index(fields=["team", "action", "-number"]),
            models.Index(fields=["team", "actor_name", "-number"]),
            models.Index(fields=["team", "target_id", "-number"]),
            models.Index(fields=["team", "outcome", "-number"]),
            models.Index(fields=["team", "at", "number"]),
            models.Index(fields=["team", "request_id"]),
            models.Index(fields=["team", "operation_id"]),
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.action} {self.target_name}"


class Check(models.Model):
    """What the last periodic check of a team's chain found. `fault` is "" if the chain was whole."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True, related_name="+")
    at = models.DateTimeField()
    complete_at = models.DateTimeField(null=True)
    number = models.PositiveBigIntegerField(null=True)
    fault = models.CharField(max_length=300, blank=True)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    def __str__(self) -> str:
        return f"#{self.number} {self.fault}" if self.fault else "whole"


class SavedFilter(models.Model):
    """A query string of the audit page under a name, for one person in one team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user", "name"], name="one_saved_filter_per_name")]

    def __str__(self) -> str:
        return self.name


class Seal(models.Model):
    """Entries that were moved to a file, and how to tell that the file is what they were. See `portal.audit.seals`."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    first = models.PositiveBigIntegerField()
    last = models.PositiveBigIntegerField()
    # The hash before the first entry, and the last entry's: what is left goes on from there.
    prev_hash = models.CharField(max_length=64)
    last_hash = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)
    file = models.CharField(max_length=200)
    at = models.DateTimeField()
    key_id = models.CharField(max_length=16)
    signature = models.CharField(max_length=128)

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "first"], name="one_seal_per_start")]

    def __str__(self) -> str:
        return f"#{self.first} to #{self.last}"
