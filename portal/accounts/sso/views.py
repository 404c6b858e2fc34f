"""The way to the single sign-on provider and back: to sign in, to link one's account, to confirm that it is oneself."""

import time
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from allauth.core.internal import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.accounts import confirmed, invitations, sessions
from portal.accounts.confirmed import recently_confirmed
from portal.accounts.models import Identity, User
from portal.accounts.sso import identities, provider
from portal.accounts.sso.provider import Intent, Person, Refused
from portal.http import PortalRequest


@require_POST
def sign_in(request: HttpRequest) -> HttpResponse:
    """Go to the provider; with the token of an invitation in `join`, to make an account by it."""
    if request.user.is_authenticated:
        return redirect("home")
    refused = ratelimit.consume_or_429(request, app="allauth.account", action="sso")
    return refused or _go(request, Intent.SIGN_IN, join=request.POST.get("join", ""))


@recently_confirmed
@require_POST
def link(request: PortalRequest) -> HttpResponse:
    return _go(request, Intent.LINK)


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: PortalRequest) -> HttpResponse:
    """Have the provider ask once more who it is."""
    if request.method == "POST":
        return _go(request, Intent.CONFIRM)
    return render(request, "account/sso_confirm.html", {"back": _back(request)})


@recently_confirmed
@require_POST
def unlink(request: PortalRequest, number: int) -> HttpResponse:
    try:
        identities.unlink(request, request.user, number)
        messages.success(request, "It is unlinked. It signs you in no more.")
    except Identity.DoesNotExist as error:
        raise Http404 from error
    except identities.OnlyWayIn:
        messages.error(request, "It is your only way to sign in. Add a passkey that signs in alone, then unlink it.")
    return redirect("account")


@never_cache
@require_safe
def callback(request: HttpRequest) -> HttpResponse:
    """Where the provider sends the browser back to."""
    if not provider.is_configured():
        raise Http404
    kept = provider.kept(request)
    try:
        if not kept:
            raise Refused("This sign-in was not begun in this browser, or it is over. Begin again.")
        return ARRIVED[Intent(kept["intent"])](request, provider.finish(request), kept)
    except Refused as error:
        return render(request, "account/sso_refused.html", {"why": str(error)}, status=403)


def _go(request: HttpRequest, intent: Intent, **kept: str) -> HttpResponse:
    if not provider.is_configured():
        raise Http404
    try:
        url = provider.start(request, intent, back=_back(request), **kept)
    except Refused as error:
        return render(request, "account/sso_refused.html", {"why": str(error)}, status=502)
    # A page that leads on, not a redirect: the policy of what forms may lead to holds for where they are sent on to.
    return render(request, "account/sso_go.html", {"url": url})


def _back(request: HttpRequest) -> str:
    """Return the path of this site to go to afterwards, "" for the usual one."""
    asked = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME) or ""
    return asked if url_has_allowed_host_and_scheme(asked, allowed_hosts=None) else ""


def _signed_in(request: HttpRequest, person: Person, kept: dict[str, Any]) -> HttpResponse:
    known, proved_at = identities.find(person), provider.proved_at(person)
    if known is None:
        # A new account has nothing to guard yet, and its person sets up here how to confirm from now on.
        known, proved_at = _joined(request, person, kept.get("join", "")), time.time()
    if known is None:
        sessions.refused(request, person.email, f"{settings.OIDC_NAME} is not linked to this account")
        raise Refused(
            f"No account here is linked to this {settings.OIDC_NAME} identity. If you have an account, sign in to it "
            "as usual and link it on your account page. If you have none, ask an admin of your team to invite you."
        )
    identities.used(known)
    record_authentication(request, known.user, method="sso", identity=known.pk, proved_at=proved_at)
    answer: HttpResponse = perform_login(request, known.user, redirect_url=kept["back"] or None)
    return answer


def _joined(request: HttpRequest, person: Person, token: str) -> Identity | None:
    """Make the invited person's account, for whoever the provider says has the invited address."""
    found = invitations.find(token) if token else None
    if found is None:
        return None
    invitation = found.invitation
    if person.email != invitation.email:
        raise Refused(
            f"The invitation is for {invitation.email}, and {settings.OIDC_NAME} does not vouch that this is yours."
        )
    try:
        return identities.join(request, invitation, person)
    except (invitations.Refused, IntegrityError) as error:
        raise Refused("This invitation cannot be used for a new account any more. Open its link once more.") from error


def _linked(request: HttpRequest, person: Person, kept: dict[str, Any]) -> HttpResponse:
    user = _still(request)
    if identities.link(request, user, person).user != user:
        raise Refused(f"This {settings.OIDC_NAME} identity is linked to another account.")
    messages.success(request, f"{settings.OIDC_NAME} signs you in from now on.")
    return redirect("account")


def _confirmed(request: HttpRequest, person: Person, kept: dict[str, Any]) -> HttpResponse:
    user, known = _still(request), identities.find(person)
    if known is None or known.user != user:
        sessions.not_confirmed(request, user, f"{settings.OIDC_NAME} named somebody else")
        raise Refused(f"This {settings.OIDC_NAME} identity is not linked to the account that you are signed in with.")
    proved_at = provider.proved_at(person)
    if time.time() - proved_at > confirmed.RECENT:
        sessions.not_confirmed(request, user, f"{settings.OIDC_NAME} did not ask anew")
        raise Refused(
            f"{settings.OIDC_NAME} did not ask you anew, or does not say that it did. Confirm with a passkey, an "
            "authenticator app or your password. If you have none of them, ask who runs this portal."
        )
    record_authentication(request, user, method="sso", identity=known.pk, proved_at=proved_at, reauthenticated=True)
    sessions.identity(request, user, "identity.used", str(known))
    return redirect(kept["back"] or "confirmed")


def _still(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise Refused("You were signed out meanwhile. Sign in, and begin again.")
    return request.user


ARRIVED = {Intent.SIGN_IN: _signed_in, Intent.LINK: _linked, Intent.CONFIRM: _confirmed}


def confirming(user: User) -> list[dict[str, str]]:
    """Return single sign-on among the ways to confirm that it is oneself, as allauth lists them."""
    if not (provider.is_configured() and user.identities.exists()):
        return []
    return [{"id": "sso", "description": f"Sign in again with {settings.OIDC_NAME}", "url": reverse("sso-confirm")}]
