"""The request as views see it, typed."""

from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.views.decorators.vary import vary_on_headers
from django_htmx.middleware import HtmxDetails

if TYPE_CHECKING:
    from portal.accounts.models import Membership, Team, User


class PortalRequest(HttpRequest):
    """A signed-in person's request: `portal.accounts.middleware.Access` has set team and memberships."""

    user: "User"
    team: "Team"
    membership: "Membership"
    memberships: "list[Membership]"
    htmx: HtmxDetails
    request_id: str


# For addresses that answer with the page or with a fragment of it: no cache may mix the two up.
vary_on_htmx = vary_on_headers("HX-Request", "HX-Target")
