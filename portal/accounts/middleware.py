"""The door: who you are, which team you act in, and whether the table lets you in."""

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from django_htmx.http import HttpResponseClientRedirect, HttpResponseClientRefresh

from portal.accounts import lifetime, sessions
from portal.accounts.access import PUBLIC, TO_A_SECOND_FACTOR, Who, who
from portal.accounts.factors import required
from portal.accounts.models import Membership
from portal.accounts.roles import Role

log = logging.getLogger(__name__)


class Access(MiddlewareMixin):
    """Holds `portal.accounts.access.TABLE` for every address, and sets request.team and request.membership.

    Who lacks a second factor that they need gets neither, and no further than to setting one up.
    """

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        allowed = who(match.url_name or "" if match else "", request.method or "GET")
        if allowed == PUBLIC:
            return None  # asks the database nothing: a health check must not hang on it
        if not request.user.is_authenticated:
            return redirect_to_login(request)
        if not in_background(request):
            lifetime.touch(request)
        if required.is_missing(request):
            opens = match is not None and match.url_name in TO_A_SECOND_FACTOR
            return None if opens else redirect("second-factor")
        # Read anew at each request: a role change holds.
        memberships = list(Membership.objects.filter(user=request.user.pk).select_related("team").order_by("pk"))
        membership = chosen(memberships, request.session.get("team"))
        if membership is None:
            return render(request, "account/no_team.html", status=403)
        request.team, request.membership = membership.team, membership  # type: ignore[attr-defined]
        request.memberships = memberships  # type: ignore[attr-defined]
        if (shown := shown_for(request, allowed)) not in (None, membership.team.slug):
            return other_team(request, memberships, shown)
        if isinstance(allowed, frozenset) and membership.role not in allowed:
            return refused(request, membership, allowed)
        return None

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        if isinstance(exception, PermissionDenied) and hasattr(request, "membership"):
            sessions.denied(request)  # type: ignore[arg-type]

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        match = request.resolver_match
        if match is not None and match.url_name == "account_logout" and request.method == "POST":
            response.headers["Clear-Site-Data"] = '"storage"'
        return response


def in_background(request: HttpRequest) -> bool:
    """Say whether a page asks by itself, with nobody at it: such requests keep no session alive."""
    match = request.resolver_match
    return "X-Background" in request.headers or bool(match and match.url_name == "live")


def chosen(memberships: list[Membership], slug: str | None) -> Membership | None:
    """Return the membership of the team with this short name, else the first one."""
    return next((one for one in memberships if one.team.slug == slug), next(iter(memberships), None))


def shown_for(request: HttpRequest, allowed: Who) -> str | None:
    """Return the team that the request's page was shown for, if it says so and it matters.

    Scripts say it in a header, forms in a field. What a person does to their own account is the same in every team.
    """
    form = request.POST.get("on_team") if isinstance(allowed, frozenset) else None
    return request.headers.get("X-Team", form)


def other_team(request: HttpRequest, memberships: list[Membership], slug: str | None) -> HttpResponse:
    """Do nothing: the person has changed the team in another tab. A fragment's page is loaded anew."""
    if getattr(request, "htmx", None):
        return HttpResponseClientRefresh()
    theirs = next((one.team for one in memberships if one.team.slug == slug), None)
    return render(request, "account/other_team.html", {"shown_for": theirs}, status=409)


def redirect_to_login(request: HttpRequest) -> HttpResponse:
    """Send the browser to sign in, and afterwards back to the page it was on; a form is not sent again by itself."""
    htmx = getattr(request, "htmx", None)
    if htmx:
        back = htmx.current_url_abs_path or ""
    else:
        back = request.get_full_path() if request.method in ("GET", "HEAD") else ""
    login = reverse("account_login")
    url = f"{login}?{urlencode({REDIRECT_FIELD_NAME: back})}" if back else login
    if not htmx:
        return redirect(url)
    answer = HttpResponseClientRedirect(url)
    answer.status_code = 401  # never taken for the fragment that was asked for
    return answer


def refused(request: HttpRequest, membership: Membership, allowed: Who) -> HttpResponse:
    log.warning("refused %s %s to %s (%s)", request.method, request.path, request.user.pk, membership.role)
    sessions.denied(request)  # type: ignore[arg-type]  # Access has set what makes it one
    roles = [Role(role).label for role in Role if role in allowed]
    return render(request, "403.html", {"roles": roles}, status=403)
