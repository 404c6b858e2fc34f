"""Connections to Engines APIs, and people's keys to them, sealed."""

import uuid
from typing import ClassVar, Self

from django.conf import settings
from django.db import models

from portal.accounts.models import Team
from portal.scope import TeamManager

TOLERATED = 30  # seconds between an API's clock and ours


class Connection(models.Model):
    """A team's Engines API address."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="connections")
    name = models.CharField(max_length=100)
    base_url = models.URLField(max_length=300)
    # Refresh state: who reads this connection now, and when it was last read from the first page to the last.
    refresh_due_at = models.DateTimeField(null=True)
    refresh_lease_until = models.DateTimeField(null=True)  # held on where the requests of a reading have to last longer
    refreshed_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    last_answer = models.JSONField(default=dict)  # the API's, where it answered at all; redacted
    failing_since = models.DateTimeField(null=True)
    skew = models.IntegerField(null=True)  # seconds by which the API's clock is ahead of ours, when last read

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "base_url"], name="one_connection_per_address")]

    def __str__(self) -> str:
        return self.name

    @property
    def other_clock(self) -> str:
        """How the API's clock differs from ours, in words; "" while that is too little to matter."""
        if self.skew is None or abs(self.skew) <= TOLERATED:
            return ""
        minutes, seconds = divmod(abs(self.skew), 60)
        much = " ".join(filter(None, [f"{minutes} min" if minutes else "", f"{seconds} s" if seconds else ""]))
        return f"{much} {'ahead of' if self.skew > 0 else 'behind'} ours"


class StoredKey(models.Model):
    """One person's API key to one connection. The key itself is only in `sealed`, bound to this row.

    `last_four` and `fingerprint` (an HMAC) let people and the log name a key without holding it. A person has one key
    that new operations are asked with; one that was rotated out stays for the operations it was used for.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="keys")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="stored_keys")
    label = models.CharField(max_length=100)
    sealed = models.TextField()
    last_four = models.CharField(max_length=4)
    fingerprint = models.CharField(max_length=64)
    # What the API said when the key was checked. An empty list from the API means full access: stored as ["*"].
    scopes = models.JSONField(default=list)
    refused_reads = models.JSONField(default=list)  # what it was tried for when it was checked, in vain
    checked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    last_answer = models.JSONField(default=dict)  # to that, or to the last test that came to nothing; redacted
    failing_since = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True)  # when its owner was written to about that
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True)  # rotated out: nothing new is asked with it

    objects: ClassVar[TeamManager[Self]] = TeamManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "user"],
                condition=models.Q(retired_at__isnull=True),
                name="one_key_per_person_and_connection",
            )
        ]

    def __str__(self) -> str:
        return f"{self.label} (…{self.last_four})"
