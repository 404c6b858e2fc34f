"""The team page: who is in it, and what each role may do."""

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts.access import may
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
    "Drain many engines at once": [("bulk-drain", "GET"), ("bulk-drain", "POST"), ("batch-stop", "POST")],
    "Cancel operations, decide about stuck ones": [
        ("operation-cancel", "POST"),
        ("operation-keep-waiting", "POST"),
        ("operation-send-again", "POST"),
        ("operation-close", "POST"),
    ],
    "See cloud time and the ledger": [("cloud-time", "GET"), ("cloud-time-csv", "GET")],
    "Buy cloud time, approve it, freeze it": [
        ("engine-extend", "GET"),
        ("engine-extend", "POST"),
        ("cloud-time-approve", "POST"),
        ("cloud-time-reject", "POST"),
        ("cloud-time-resolve", "POST"),
        ("cloud-time-freeze", "POST"),
    ],
    "Set the limits of spending": [("cloud-time-limits", "POST")],
    "See own API keys": [("keys", "GET")],
    "Store an own API key": [("keys", "POST")],
    "See the team": [("team", "GET")],
    "Read the audit log": [
        ("audit", "GET"),
        ("audit-entry", "GET"),
        ("audit-export", "POST"),
        ("audit-filter-save", "POST"),
        ("audit-filter-forget", "POST"),
    ],
}


@require_safe
def team(request: PortalRequest) -> HttpResponse:
    members = Membership.objects.filter(team=request.team).select_related("user").order_by("user__name", "user__email")
    return render(request, "team/team.html", {"members": members, "roles": Role, "abilities": abilities()})


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
