"""How long a session lasts: IDLE without a sign of its person, ABSOLUTE in all. Its row in the database holds the end.

Django refuses an expired session, and event streams are ended by the same row: nothing else has to know of the two.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils import timezone

STARTED = "started"  # when the person signed in, in seconds since the epoch
FINE = timedelta(minutes=1)  # the end is moved no more often


def begin_at_sign_in(request: HttpRequest, **_: Any) -> None:
    """Receive Django's `user_logged_in`."""
    begin(request)


def begin(request: HttpRequest) -> None:
    """Start both clocks."""
    request.session[STARTED] = timezone.now().timestamp()
    request.session.set_expiry(_end(request.session))


def touch(request: HttpRequest) -> None:
    """Take the request for a sign of its person: the session goes on for IDLE from now, but not beyond ABSOLUTE."""
    session = request.session
    if STARTED not in session:  # from before there were clocks
        begin(request)
    end = _end(session)
    if end - _current_end(session) < FINE:
        return
    session.set_expiry(end)
    seen: dict[str, Any] = {"last_seen_at": timezone.now()}
    if address := request.META.get("REMOTE_ADDR"):
        seen["ip"] = address
    UserSession.objects.filter(session_key=session.session_key).update(**seen)


def rotate_if_confirmed(request: HttpRequest, *, reauthenticated: bool = False, **_: Any) -> None:
    """Receive allauth's `authentication_step_completed`: a session that may do more from now on gets a new name."""
    if not reauthenticated:
        return
    before = request.session.session_key
    request.session.cycle_key()
    UserSession.objects.filter(session_key=before).update(session_key=request.session.session_key)


def started_at(session: SessionBase) -> datetime:
    return datetime.fromtimestamp(session[STARTED], UTC)


def _end(session: SessionBase) -> datetime:
    idle = timezone.now() + timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    return min(idle, started_at(session) + timedelta(seconds=settings.SESSION_COOKIE_AGE))


def _current_end(session: SessionBase) -> datetime:
    return timezone.now() + timedelta(seconds=session.get_expiry_age())
