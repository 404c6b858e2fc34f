"""Following an invitation's link. Whoever has the link may see this page; only who has the invited address joins."""

from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from portal.accounts import invitations
from portal.accounts.forms import JoinForm
from portal.accounts.invitations import State
from portal.accounts.models import Invitation, User


@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    found = invitations.find(token)
    if found is None:
        return render(request, "account/join_unknown.html", status=404)
    row, state, mailed = found
    if state != State.OPEN:
        return render(request, "account/join_over.html", {"invitation": row, "state": state}, status=410)
    if isinstance(request.user, User):
        return as_oneself(request, row, mailed)
    if User.objects.filter(email=row.email).exists():
        return render(request, "account/join_sign_in.html", {"invitation": row})
    return as_somebody_new(request, row, token, mailed)


def as_oneself(request: HttpRequest, row: Invitation, mailed: bool) -> HttpResponse:
    """Join with the account that is signed in, if it is the invited one."""
    user = request.user
    assert isinstance(user, User)
    if user.email != row.email:
        return render(request, "account/join_other.html", {"invitation": row}, status=403)
    if request.method != "POST":
        return render(request, "account/join.html", {"invitation": row})
    try:
        member = invitations.accept(request, row, user, proven=mailed)
    except invitations.Refused as error:
        messages.error(request, str(error))
        return redirect(request.path)
    request.session["team"] = member.team.slug
    messages.success(request, f"You are {member.get_role_display()} of {member.team} now.")
    return redirect("engines")


def as_somebody_new(request: HttpRequest, row: Invitation, token: str, mailed: bool) -> HttpResponse:
    """Make an account for the invited address, which then signs in like any other."""
    form = JoinForm(request.POST or None, email=row.email)
    if request.method == "POST" and form.is_valid():
        user = User(email=row.email, name=form.cleaned_data["name"])
        user.set_password(form.cleaned_data["password1"])
        try:
            member = invitations.accept(request, row, user, proven=mailed)
        except (invitations.Refused, IntegrityError):  # the same form sent twice: the first one made the account
            return redirect(request.path)
        messages.success(request, f"Your account is there, and you are {member.get_role_display()} of {member.team}.")
        return redirect("account_login")
    status = 422 if request.method == "POST" else 200
    shown = {"invitation": row, "form": form, "token": token}
    return render(request, "account/join_new.html", shown, status=status)
