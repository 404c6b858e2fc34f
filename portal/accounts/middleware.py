"""The door: who you are, which team you act in, and whether the table lets you in."""

import logging
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.deprecation import MiddlewareMixin

from portal.accounts.access import PUBLIC, Who, who
from portal.accounts.models import Membership
from portal.accounts.roles import Role

log = logging.getLogger(__name__)


class Access(MiddlewareMixin):
    """Holds `portal.accounts.access.TABLE` for every address, and sets request.team and request.membership."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        allowed = who(match.url_name or "" if match else "", request.method or "GET")
        membership = membership_of(request)
        if membership is not None:
            request.team, request.membership = membership.team, membership  # type: ignore[attr-defined]
        if allowed == PUBLIC:
            return None
        if not request.user.is_authenticated:
            return redirect_to_login(request)
        if membership is None:
            return render(request, "account/no_team.html", status=403)
        if isinstance(allowed, frozenset) and membership.role not in allowed:
            return refused(request, membership, allowed)
        return None


def membership_of(request: HttpRequest) -> Membership | None:
    """Return the membership of the chosen team, else the first one. Read anew at each request: a role change holds."""
    if not request.user.is_authenticated:
        return None
    rows = Membership.objects.filter(user=request.user).select_related("team").order_by("pk")
    chosen = [row for row in rows if row.team.slug == request.session.get("team")]
    return next(iter([*chosen, *rows]), None)


def redirect_to_login(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth.views import redirect_to_login as to_login

    safe = request.method in ("GET", "HEAD") and not getattr(request, "htmx", False)
    return to_login(request.get_full_path()) if safe else redirect("account_login")


def refused(request: HttpRequest, membership: Membership, allowed: Who) -> HttpResponse:
    log.warning("refused %s %s to %s (%s)", request.method, request.path, request.user.pk, membership.role)
    roles = [Role(role).label for role in Role if role in allowed]
    return render(request, "403.html", {"roles": roles}, status=403)
