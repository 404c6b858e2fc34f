"""What every page says about its person's keys."""

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from portal.accounts.models import Membership
from portal.vault.keys import current_keys
from portal.vault.models import StoredKey


def refused_keys(request: HttpRequest) -> dict[str, Any]:
    """Return the person's own keys that the API refuses; asked for by whole pages only, not by their parts."""
    membership: Membership | None = getattr(request, "membership", None)
    if membership is None:
        return {}

    def found() -> list[StoredKey]:
        rows = current_keys(membership.team).filter(user=membership.user_id).exclude(last_error="")
        return list(rows.select_related("connection"))

    return {"refused_keys": SimpleLazyObject(found)}
