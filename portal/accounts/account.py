"""A person's own account: how they sign in, and where they are signed in."""

from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts import sessions
from portal.accounts.confirmed import recently_confirmed
from portal.accounts.factors import own
from portal.http import PortalRequest


@require_safe
def account(request: PortalRequest) -> HttpResponse:
    shown = {
        "sessions": sessions.of(request),
        "factors": own.of(request.user),
        "identities": request.user.identities.order_by("at"),
        "has_password": request.user.has_usable_password(),
    }
    return render(request, "account/account.html", shown)


@require_POST
def end_session(request: PortalRequest, number: int) -> HttpResponse:
    """End one of the person's own sessions, wherever it is, and the event streams of its pages."""
    session = UserSession.objects.filter(user=request.user, pk=number).first()
    if session is None:
        raise Http404
    sessions.end(request, request.user, [session])
    messages.success(request, "That session is signed out.")
    return redirect("account")


@require_POST
def end_other_sessions(request: PortalRequest) -> HttpResponse:
    sessions.end_others(request, request.user)
    messages.success(request, "You are signed out everywhere but here.")
    return redirect("account")


@recently_confirmed
@require_safe
def confirmed(request: PortalRequest) -> HttpResponse:
    """Where confirming in another tab ends."""
    return render(request, "account/confirmed.html")
