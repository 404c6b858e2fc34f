"""What every page shows around its content."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from portal.accounts.access import may
from portal.accounts.models import Membership

PLACES = [
    ("engines", "Engines", "server"),
    ("operations", "Operations", "activity"),
    ("cloud-time", "Cloud time", "hourglass"),
    ("audit", "Audit log", "shield-check"),
    ("team", "Team", "users"),
    ("keys", "Keys", "key"),
]


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Return team, membership and the places that this role can go to; nothing for those who are not signed in."""
    membership: Membership | None = getattr(request, "membership", None)
    if membership is None:
        return {"navigation": []}
    places = [
        {"label": label, "url": reverse(name), "icon": icon, "active": request.path.startswith(reverse(name))}
        for name, label, icon in PLACES
        if may(membership.role, name, "GET")
    ]
    all_teams = sorted(request.memberships, key=lambda one: one.team.name)  # type: ignore[attr-defined]
    return {"navigation": places, "team": membership.team, "membership": membership, "memberships": all_teams}
