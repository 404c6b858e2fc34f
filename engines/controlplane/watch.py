"""One look for all sockets of this process: is there news for any of them in the database?

A socket reads its rows when it is rung. If the ring was lost, or another process made the change, this look sees that
the rows are not what they were the last time, and rings. It also writes down which engines were heard since then.
"""

from collections.abc import Sequence

from django.utils.timezone import now

from engines.controlplane import sending, wakeups
from engines.controlplane.models import Engine
from engines.controlplane.sessions import Session, all_held

AT_ONCE = 500  # engines in one statement


def look() -> None:
    """Write down who was heard, and ring for every session whose rows have changed."""
    sessions = all_held()
    heard = [session for session in sessions if session.heard]
    for start in range(0, len(heard), AT_ONCE):
        _write_heard(heard[start : start + AT_ONCE])
    _compare(sessions)


def _write_heard(heard: Sequence[Session]) -> None:
    for session in heard:
        session.heard = False
    # By the session's id, as everywhere: a connection that was replaced changes nothing.
    rows = Engine.objects.filter(pk__in=[each.engine_id for each in heard], session__in=[each.id for each in heard])
    rows.update(heartbeat_at=now())


def _compare(sessions: Sequence[Session]) -> None:
    found = sending.readings(sessions)
    changed = [session for session in sessions if session.reading != found[session.id]]
    for session in changed:
        session.reading = found[session.id]
    wakeups.ring(*(session.engine_id for session in changed))
