"""Second factors in the audit log: added, removed, used, refused. A change signs its person out everywhere else."""

from typing import Any

from allauth.core import context
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from portal.accounts import sessions
from portal.accounts.models import User

KINDS = {
    Authenticator.Type.TOTP: "authenticator app",
    Authenticator.Type.WEBAUTHN: "passkey",
    Authenticator.Type.RECOVERY_CODES: "recovery codes",
}


def saved(instance: Authenticator, created: bool, **_: Any) -> None:
    if created:
        _changed(instance, "factor.added")


def deleted(instance: Authenticator, **_: Any) -> None:
    _changed(instance, "factor.removed")


def used(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    sessions.factor(request, user, "factor.used", called(authenticator))


def refused(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    if user is not None:
        sessions.factor(request, user, "factor.refused", called(authenticator), outcome="refused")


def called(authenticator: Authenticator) -> str:
    kind = KINDS[authenticator.type]
    return f"{kind} “{authenticator}”" if authenticator.type == Authenticator.Type.WEBAUTHN else kind


def _changed(authenticator: Authenticator, action: str) -> None:
    request = getattr(context, "request", None)  # none on the command line
    user = User.objects.get(pk=authenticator.user_id)
    sessions.factor(request, user, action, called(authenticator))
    sessions.end_others(request, user, "a second factor was changed")
