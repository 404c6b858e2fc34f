"""Two clocks: the database's for deadlines and leases, shared by all processes; the machine's for short durations."""

import time
from datetime import datetime

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    """Return the database's time, in UTC. SQLite has no clock of its own and is always on this host."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]  # type: ignore[no-any-return]


def boot() -> float:
    """Return the seconds since the machine started: they go on while it sleeps, and they never jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
