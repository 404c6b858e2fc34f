"""The team page: who is in it, and what each role may do."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts import invitations, members
from portal.accounts.access import may
from portal.accounts.confirmed import recently_confirmed
from portal.accounts.forms import RoleForm
from portal.accounts.models import Membership
from portal.accounts.roles import Role
from portal.http import PortalRequest

# What people come to do, and the cells of the access table that let them. A test finds cells without words.
ABILITIES = {
    "See engines and operations": [
        ("engines", "GET"),
        ("engine", "GET"),
        ("operations", "GET"),
        ("operation", "GET"),
        ("batch", "GET"),
    ],
    "Drain engines": [("engine-drain", "GET"), ("engine-drain", "POST")],
    "Update, restart and rename engines": [
        ("engine-rename", "GET"),
        ("engine-rename", "POST"),
        ("engine-update", "GET"),
        ("engine-update", "POST"),
        ("engine-restart", "GET"),
        ("engine-restart", "POST"),
    ],
    "Stop and delete engines": [
        ("engine-stop", "GET"),
        ("engine-stop", "POST"),
        ("engine-delete", "GET"),
        ("engine-delete", "POST"),
    ],
    "Start new engines": [("engine-new", "GET"), ("engine-new", "POST"), ("engine-new-waiting", "GET")],
    "Rent machines for new engines": [("engine-types", "GET"), ("engine-create", "GET"), ("engine-create", "POST")],
    "Drain, update, restart and rename many engines at once": [
        ("bulk-drain", "GET"),
        ("bulk-drain", "POST"),
        ("bulk-update", "GET"),
        ("bulk-update", "POST"),
        ("bulk-restart", "GET"),
        ("bulk-restart", "POST"),
        ("bulk-rename", "GET"),
        ("bulk-rename", "POST"),
    ],
    "Stop what a batch has not sent yet": [("batch-stop", "GET"), ("batch-stop", "POST")],
    "Stop and delete many engines at once": [
        ("bulk-stop", "GET"),
        ("bulk-stop", "POST"),
        ("bulk-delete", "GET"),
        ("bulk-delete", "POST"),
    ],
    "Cancel operations, decide about stuck ones": [
        ("operation-cancel", "GET"),
        ("operation-cancel", "POST"),
        ("operation-keep-waiting", "GET"),
        ("operation-keep-waiting", "POST"),
        ("operation-send-again", "GET"),
        ("operation-send-again", "POST"),
        ("operation-close", "GET"),
        ("operation-close", "POST"),
    ],
    "See cloud time and the ledger": [("cloud-time", "GET"), ("cloud-time-csv", "POST")],
    "Buy cloud time, approve it, freeze it": [
        ("engine-extend", "GET"),
        ("engine-extend", "POST"),
        ("bulk-extend", "GET"),
        ("bulk-extend", "POST"),
        ("batch-approve", "GET"),
        ("batch-approve", "POST"),
        ("cloud-time-approve", "GET"),
        ("cloud-time-approve", "POST"),
        ("cloud-time-reject", "GET"),
        ("cloud-time-reject", "POST"),
        ("cloud-time-cancel", "GET"),
        ("cloud-time-cancel", "POST"),
        ("cloud-time-resolve", "GET"),
        ("cloud-time-resolve", "POST"),
        ("cloud-time-freeze", "GET"),
        ("cloud-time-freeze", "POST"),
    ],
    "Set the limits of spending, up to the ceiling": [("cloud-time-limits", "GET"), ("cloud-time-limits", "POST")],
    "Set the ceiling of the limits": [("cloud-time-ceiling", "GET"), ("cloud-time-ceiling", "POST")],
    "See own API keys": [("keys", "GET")],
    "Store, test and revoke own API keys": [
        ("keys", "POST"),
        ("key-test", "POST"),
        ("key-revoke", "GET"),
        ("key-revoke", "POST"),
    ],
    "Add, change and remove connections, remove keys of others": [
        ("connections", "GET"),
        ("connection-new", "GET"),
        ("connection-new", "POST"),
        ("connection", "GET"),
        ("connection", "POST"),
        ("connection-remove", "GET"),
        ("connection-remove", "POST"),
    ],
    "See the team": [("team", "GET")],
    "Read the audit log": [
        ("audit", "GET"),
        ("audit-entry", "GET"),
        ("audit-export", "POST"),
        ("audit-filter-save", "POST"),
        ("audit-filter-forget", "POST"),
    ],
    "Invite people": [
        ("invite", "GET"),
        ("invite", "POST"),
        ("invitation-resend", "POST"),
        ("invitation-revoke", "POST"),
    ],
    "Change roles, remove members": [("member", "GET"), ("member-role", "POST"), ("member-remove", "POST")],
}


@require_safe
def team(request: PortalRequest) -> HttpResponse:
    people = Membership.objects.filter(team=request.team).select_related("user").order_by("user__name", "user__email")
    return render(
        request,
        "team/team.html",
        {
            "members": people,
            "unproven": any(one.user.unproven_since for one in people),
            "roles": Role,
            "abilities": abilities(),
            "may_change": may(request.membership.role, "member", "GET"),
            "invitations": open_invitations(request) if may(request.membership.role, "invite", "GET") else [],
        },
    )


def open_invitations(request: PortalRequest) -> list[dict[str, Any]]:
    rows = invitations.open_in(request.team).select_related("team").order_by("-pk")
    return [
        {"row": row, "state": invitations.state_of(row, row.nonce), "link": invitations.link(request, row)}
        for row in rows
    ]


def of_own_team(view: Callable[[PortalRequest, int], HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer 404 for a member of another team before anything else: who is there is nobody's to find out."""

    @wraps(view)
    def guarded(request: PortalRequest, member: int) -> HttpResponse:
        get_object_or_404(Membership, team=request.team, pk=member)
        return view(request, member)

    return guarded


@of_own_team
@recently_confirmed
@require_safe
def member(request: PortalRequest, member: int) -> HttpResponse:
    return member_page(request, member, RoleForm())


@of_own_team
@recently_confirmed
@require_POST
def change_role(request: PortalRequest, member: int) -> HttpResponse:
    form = RoleForm(request.POST)
    if not form.is_valid():
        return member_page(request, member, form, status=422)
    try:
        one = members.change_role(request, member, form.cleaned_data["role"])
        messages.success(request, f"{one.user} is {one.get_role_display()} now.")
    except Membership.DoesNotExist as error:
        raise Http404 from error
    except members.LastAdmin as error:
        messages.error(request, str(error))
    return redirect("team")


@of_own_team
@recently_confirmed
@require_POST
def remove(request: PortalRequest, member: int) -> HttpResponse:
    try:
        messages.success(request, f"{members.remove(request, member).user} is no longer in {request.team}.")
    except Membership.DoesNotExist as error:
        raise Http404 from error
    except members.LastAdmin as error:
        messages.error(request, str(error))
    return redirect("team")


def member_page(request: PortalRequest, number: int, form: RoleForm, status: int = 200) -> HttpResponse:
    one = get_object_or_404(Membership.objects.select_related("user"), team=request.team, pk=number)
    form.initial = {"role": one.role}
    return render(request, "team/member.html", {"member": one, "form": form}, status=status)


@require_POST
def switch(request: PortalRequest) -> HttpResponse:
    """Act in another of one's own teams from now on."""
    own = Membership.objects.filter(user=request.user).select_related("team")
    chosen = next((one for one in own if one.team.slug == request.POST.get("team")), None)
    if chosen is None:
        raise Http404
    request.session["team"] = chosen.team.slug
    return redirect("engines")


def abilities() -> list[dict[str, Any]]:
    """Return for each ability which roles have it, read off the table that the server enforces."""
    return [
        {"label": label, "roles": [(role, all(may(role, *cell) for cell in cells)) for role in Role]}
        for label, cells in ABILITIES.items()
    ]
