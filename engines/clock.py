"""Two clocks: the database's for deadlines and leases, shared by all workers; the machine's for short durations.

And what other people's clocks say.
"""

import time
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.utils import timezone
from django.utils.dateparse import parse_datetime


def now() -> datetime:
    """Return the database's time, in UTC. SQLite has no clock of its own and is always on this host."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]  # type: ignore[no-any-return]


def moment(text: Any) -> datetime | None:
    """Return an API's RFC 3339 time; None for what is none, Go's zero time included."""
    try:
        found = parse_datetime(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if found is None or found.year < 1970 or found.year > 9000:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def boot() -> float:
    """Return the seconds since the machine started: they go on while it sleeps, and they never jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
