"""A person's sessions: listed and ended. Sign-ins, sign-outs and refused sign-ins go into the audit log of each team of
that person."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from allauth.core.internal.sessionkit import get_session_user
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.db import transaction
from django.http import HttpRequest

from portal.accounts import lifetime
from portal.accounts.agents import device
from portal.accounts.models import Membership, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest

log = logging.getLogger(__name__)

MINUTE, THROTTLED = 60, 300  # seconds


@dataclass(frozen=True)
class Place:
    """Where a person is signed in."""

    session: UserSession
    device: str
    here: bool


def of(request: PortalRequest) -> list[Place]:
    """Return the person's open sessions, this one first, then the one last seen."""
    here = request.session.session_key
    rows = UserSession.objects.filter(user=request.user).order_by("-last_seen_at")
    places = [Place(row, device(row.user_agent), row.session_key == here) for row in rows if is_open(row)]
    return sorted(places, key=lambda place: not place.here)


def is_open(row: UserSession) -> bool:
    """Say whether the session would be let in: it has not expired, and the password has not changed."""
    store = row._session_store(row.session_key)
    return bool(get_session_user(store))


@transaction.atomic
def end(
    request: HttpRequest | None, user: User, rows: Sequence[UserSession], why: str = "from another session"
) -> None:
    """End these sessions of the person. Their event streams end within seconds."""
    for row in rows:
        place = device(row.user_agent)
        row.end()
        _record(request, user, "session.ended", reason=f"signed out: {why} ({place}, {row.ip})")


def end_others(request: HttpRequest | None, user: User, why: str = "from another session") -> None:
    """End all of the person's sessions but the request's, if there is one."""
    here = request.session.session_key if request else None
    end(request, user, list(UserSession.objects.filter(user=user).exclude(session_key=here)), why)


def started(request: HttpRequest, user: User) -> None:
    _record(request, user, "session.started")


def ended(request: HttpRequest, user: User) -> None:
    _record(request, user, "session.ended")


def refused(request: HttpRequest, email: str, why: str) -> None:
    """Record a refused sign-in; of an address that nobody here has no team needs to know, only who runs the portal.

    What was typed is not kept: it may be a password in the wrong field.
    """
    user = User.objects.filter(email=email.lower()).first()
    if user is not None:
        _record(request, user, "session.refused", outcome="refused", reason=why)
    else:
        log.warning("a sign-in of nobody here was refused, from %s", request.META.get("REMOTE_ADDR"))


def throttled(request: HttpRequest, email: str) -> None:
    """Record that tries at this account wait from here: when they begin to, not each of them."""
    if _first(f"throttled {email.lower()} {request.META.get('REMOTE_ADDR')}", THROTTLED):
        refused(request, email, "too many tries; more of them wait, and are not recorded one by one")


def passkey_refused(request: HttpRequest, user: User) -> None:
    """Record it once a minute: whoever sends one also says whose it is to be."""
    if _first(f"passkey {user.pk} {request.META.get('REMOTE_ADDR')}", MINUTE):
        refused(request, user.email, "the passkey was not accepted")


def confirmed(request: HttpRequest, user: User, method: str, reauthenticated: bool = False, **_: Any) -> None:
    """Receive allauth's `authentication_step_completed`. Codes, passkeys and single sign-on say so themselves."""
    if reauthenticated and method == "password":
        _record(request, user, "session.confirmed", reason="by the password")


def not_confirmed(request: HttpRequest, user: User, why: str) -> None:
    """Record that somebody in the person's session did not prove to be that person."""
    _record(request, user, "session.doubted", outcome="refused", reason=why)


def denied(request: PortalRequest) -> None:
    """Record what the person's role may not do in the team, once a minute for each address. Looking is not recorded."""
    name = request.resolver_match.url_name if request.resolver_match else ""
    if request.method in ("GET", "HEAD", "OPTIONS") or not _first(f"denied {request.user.pk} {name}", MINUTE):
        return
    record(
        team=request.team,
        actor=request.user,
        action="access.refused",
        target=request.team,
        origin=Origin.of(request),
        outcome="refused",
        reason=f"{request.method} {request.path}",
    )


def password_changed(request: HttpRequest, user: User) -> None:
    """Record it. The session goes on under a new name, and is still as old as it was."""
    row = UserSession.objects.filter(session_key=request.session.session_key)
    row.update(created_at=lifetime.started_at(request.session))
    _record(request, user, "person.password")


def factor(request: HttpRequest | None, user: User, action: str, what: str, outcome: str = "ok") -> None:
    """Record what happened with a second factor."""
    _record(request, user, action, outcome=outcome, reason=what)


def identity(request: HttpRequest, user: User, action: str, what: str) -> None:
    """Record what happened with how a single sign-on provider knows the person."""
    _record(request, user, action, reason=what)


def _first(what: str, seconds: int) -> bool:
    """Say whether this is the first time within so many seconds: whoever repeats it fills no log."""
    return bool(cache.add(f"recorded:{hashlib.sha256(what.encode()).hexdigest()}", True, seconds))


def _record(request: HttpRequest | None, user: User, action: str, outcome: str = "ok", reason: str = "") -> None:
    """One entry in each of the person's teams. Without a request it is the system that acts."""
    request_id = getattr(request, "request_id", "")
    address = request.META.get("REMOTE_ADDR", "") if request else ""
    for membership in Membership.objects.filter(user=user).select_related("team"):
        record(
            team=membership.team,
            actor=user if request else None,
            action=action,
            target=user,
            origin=Origin(request_id, address, membership.role if request else ""),
            outcome=outcome,
            reason=reason,
        )
