"""Nobody acts on a password alone, where REQUIRE_SECOND_FACTOR says so."""

import time

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from portal.accounts.confirmed import RECENT
from portal.http import PortalRequest

ENOUGH = ("mfa", "sso")  # methods; a passkey that signs in alone is "mfa" too


def is_missing(request: HttpRequest) -> bool:
    """Say whether the person must set up a second factor before anything else."""
    if not settings.REQUIRE_SECOND_FACTOR:
        return False
    # By the session, if it says so: most requests need not ask the database.
    if any(record["method"] in ENOUGH for record in get_authentication_records(request, request.user)):
        return False
    factors = Authenticator.objects.filter(user=request.user.pk).exclude(type=Authenticator.Type.RECOVERY_CODES)
    return not factors.exists()


def cannot_confirm(request: PortalRequest) -> bool:
    """Say whether somebody who just signed in has no way to prove it, and must be let in to set up the first one.

    Their provider does not say when it asked them, and they have neither password nor factor. RECENT is by our clock.
    """
    now, records = time.time(), get_authentication_records(request, request.user)
    if not any(each.get("proved_at") == 0 and 0 <= now - each["at"] <= RECENT for each in records):
        return False
    return not request.user.has_usable_password() and not Authenticator.objects.filter(user=request.user).exists()


@require_safe
def choose(request: HttpRequest) -> HttpResponse:
    """Where people are led who need one."""
    return render(request, "account/second_factor.html") if is_missing(request) else redirect("home")
