"""What can be asked of many engines, for the bar above the fleet."""

from typing import Any

from django.urls import reverse

from engines.filters import FleetFilter
from engines.operations.verbs import those
from engines.views.operate import ICONS
from portal.accounts.access import may
from portal.http import PortalRequest

VERBS = those(lambda verb: verb.for_many)


def selection(request: PortalRequest) -> dict[str, Any]:
    """Return what can be asked of those that are ticked, or of all that are listed, and what this role may not."""
    verbs = verbs_for(request.membership.role)
    filters = [(name, value) for name, value in request.GET.items() if name in FleetFilter.base_filters and value]
    denied = [verb["label"].lower() for verb in verbs if not verb["may"]]
    return {"many": verbs if len(denied) < len(verbs) else [], "denied": denied, "asked": filters}


def verbs_for(role: str) -> list[dict[str, Any]]:
    """Return what can be asked of many engines, and whether this role may."""
    return [
        {
            "label": verb.label,
            "icon": ICONS[verb],
            "url": reverse(f"bulk-{verb}"),
            "may": may(role, f"bulk-{verb}"),
        }
        for verb in VERBS
    ]
