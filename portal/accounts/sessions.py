"""Sign-ins, sign-outs and refused sign-ins go into the audit log of each team of that person."""

from django.http import HttpRequest

from portal.accounts.models import Membership, User
from portal.audit.log import record
from portal.audit.origin import Origin


def started(request: HttpRequest, user: User) -> None:
    _record(request, user, "session.started")


def ended(request: HttpRequest, user: User) -> None:
    _record(request, user, "session.ended")


def refused(request: HttpRequest, email: str, why: str) -> None:
    """Record a refused sign-in; of an address that nobody here has, no team needs to know."""
    user = User.objects.filter(email=email.lower()).first()
    if user is not None:
        _record(request, user, "session.refused", outcome="refused", reason=why)


def password_changed(request: HttpRequest, user: User) -> None:
    _record(request, user, "person.password")


def _record(request: HttpRequest, user: User, action: str, outcome: str = "ok", reason: str = "") -> None:
    request_id = getattr(request, "request_id", "")
    for membership in Membership.objects.filter(user=user).select_related("team"):
        origin = Origin(request_id, request.META.get("REMOTE_ADDR", ""), membership.role)
        team = membership.team
        record(team=team, actor=user, action=action, target=user, origin=origin, outcome=outcome, reason=reason)
