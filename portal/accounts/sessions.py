"""Sign-ins, sign-outs and refused sign-ins go into the audit log of each team of that person."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from portal.accounts.models import Membership, User
from portal.audit.log import record
from portal.audit.origin import Origin


@receiver(user_logged_in)
def started(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "session.started")


@receiver(user_logged_out)
def ended(sender: Any, request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        _record(request, user, "session.ended")


@receiver(user_login_failed)
def refused(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    email = str(credentials.get("email") or credentials.get("username") or "")
    user = User.objects.filter(email=email.lower()).first()
    if user is not None and request is not None:
        _record(request, user, "session.refused", outcome="refused")


def _record(request: HttpRequest, user: User, action: str, outcome: str = "ok") -> None:
    request_id = getattr(request, "request_id", "")
    for membership in Membership.objects.filter(user=user).select_related("team"):
        origin = Origin(request_id, request.META.get("REMOTE_ADDR", ""), membership.role)
        record(team=membership.team, actor=user, action=action, target=user, origin=origin, outcome=outcome)
