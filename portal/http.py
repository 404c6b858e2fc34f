"""The request as views see it, typed."""

from typing import TYPE_CHECKING

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

if TYPE_CHECKING:
    from portal.accounts.models import Membership, Team, User


class PortalRequest(HttpRequest):
    """A signed-in person's request: `portal.accounts.middleware.Access` has set team and membership."""

    user: "User"
    team: "Team"
    membership: "Membership"
    htmx: HtmxDetails
    request_id: str
