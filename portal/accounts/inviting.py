"""An admin's side of invitations: make one, send it again, revoke it."""

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from portal import mail
from portal.accounts import invitations
from portal.accounts.confirmed import recently_confirmed
from portal.accounts.forms import InviteForm
from portal.accounts.models import Invitation
from portal.http import PortalRequest


@recently_confirmed
@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: PortalRequest) -> HttpResponse:
    form = InviteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = invitations.invite(request, form.cleaned_data["email"], form.cleaned_data["role"])
        except invitations.Refused as error:
            form.add_error("email", str(error))
        else:
            say(request, made)
            return redirect("team")
    status = 422 if request.method == "POST" else 200
    return render(request, "team/invite.html", {"form": form, "mail": mail.is_configured()}, status=status)


def of_own_team(view: Callable[[PortalRequest, int], HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer 404 for an invitation of another team before anything else."""
    confirmed = recently_confirmed(require_POST(view))

    @wraps(view)
    def guarded(request: PortalRequest, invitation: int) -> HttpResponse:
        get_object_or_404(Invitation.objects.of(request.team), pk=invitation)
        try:
            return confirmed(request, invitation)
        except Invitation.DoesNotExist as error:
            raise Http404 from error

    return guarded


@of_own_team
def resend(request: PortalRequest, invitation: int) -> HttpResponse:
    say(request, invitations.resend(request, invitation))
    return redirect("team")


@of_own_team
def revoke(request: PortalRequest, invitation: int) -> HttpResponse:
    row = invitations.revoke(request, invitation)
    messages.success(request, f"The invitation of {row.email} is revoked: its link leads nowhere any more.")
    return redirect("team")


def say(request: PortalRequest, row: Invitation) -> None:
    """Tell the admin how the link gets to the person."""
    if invitations.mailed(request, row):
        messages.success(request, f"{row.email} is invited, and the link was mailed.")
    elif mail.is_configured():
        messages.warning(request, f"{row.email} is invited, but the mail was not sent. Copy the link and send it.")
    else:
        messages.success(request, f"{row.email} is invited. Copy the link below and send it: nothing is mailed here.")
