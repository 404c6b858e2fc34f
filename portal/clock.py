"""Two clocks: the database's for deadlines and leases, shared by all processes; the machine's for short durations."""

import os
import time
from datetime import UTC, datetime

from django.db import connection
from django.utils import timezone

OFFSET = "CLOCK_OFFSET"  # from the machine's start to the epoch, in seconds, as it was when this start began


def now() -> datetime:
    """Return the database's time, in UTC.

    SQLite has no clock of its own and is always on this host. All processes of one start share a clock that goes on
    evenly then: that somebody sets the host's moves no deadline, and leases run as long as they were meant to.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            return cursor.fetchone()[0]  # type: ignore[no-any-return]
    if OFFSET in os.environ:
        return datetime.fromtimestamp(float(os.environ[OFFSET]) + boot(), UTC)
    return timezone.now()


def offset() -> float:
    """Return what the processes of a start that begins now are to have in OFFSET."""
    return time.time() - boot()


def boot() -> float:
    """Return the seconds since the machine started: they go on while it sleeps, and they never jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
