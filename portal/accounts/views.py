"""The team page: who is in it, and what each role may do."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts.access import may
from portal.accounts.models import Membership
from portal.accounts.roles import Role
from portal.http import PortalRequest

# What people come to do, and the address and method that do it.
ABILITIES = {
    "See engines and operations": ("engines", "GET"),
    "Drain engines": ("engine-drain", "POST"),
    "Decide about stuck operations": ("operation-keep-waiting", "POST"),
    "Store an own API key": ("keys", "POST"),
    "Read the audit log": ("audit", "GET"),
}


@require_safe
def team(request: PortalRequest) -> HttpResponse:
    members = Membership.objects.filter(team=request.team).select_related("user").order_by("user__name", "user__email")
    return render(request, "team/team.html", {"members": members, "roles": Role, "abilities": abilities()})


@require_POST
def switch(request: PortalRequest) -> HttpResponse:
    """Act in another of one's own teams from now on."""
    chosen = get_object_or_404(Membership, user=request.user, team__slug=request.POST.get("team", ""))
    request.session["team"] = chosen.team.slug
    return redirect("engines")


def abilities() -> list[dict[str, Any]]:
    """Return for each ability which roles have it, read off the table that the server enforces."""
    return [
        {"label": label, "roles": [(role, may(role, *where)) for role in Role]} for label, where in ABILITIES.items()
    ]
