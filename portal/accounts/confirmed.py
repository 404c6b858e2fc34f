"""Step-up: what weighs much is done only by somebody who has just proved who they are."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlencode, urlsplit

from allauth.account.authentication import get_authentication_records
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from portal.http import PortalRequest

RECENT = 600  # seconds
P = ParamSpec("P")


def recently_confirmed(
    view: Callable[Concatenate[PortalRequest, P], HttpResponse],
) -> Callable[Concatenate[PortalRequest, P], HttpResponse]:
    """Let in who signed in or confirmed it at most RECENT seconds ago; send others to confirm, and back to their page.

    For pages, and for forms with little in them (for others there is `must_confirm`). A form is not sent again by
    itself: allauth would call the view past the table of roles. To an htmx request the redirect becomes HX-Redirect.
    Stands above `require_POST`.
    """

    @wraps(view)
    def guarded(request: PortalRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if is_recent(request):
            return view(request, *args, **kwargs)
        return to_confirm(request)

    return guarded


def to_confirm(request: PortalRequest) -> HttpResponse:
    """Send the browser to confirm, and afterwards back to its page."""
    back = urlencode({REDIRECT_FIELD_NAME: page_of(request)})
    return redirect(f"{reverse('account_reauthenticate')}?{back}")


def must_confirm(request: PortalRequest) -> bool:
    """Say whether to refuse until the person has proved anew who they are.

    For forms that somebody has filled in: they are shown again as they are, with `components/_must_confirm.html`, which
    leads to confirming in another tab. Nothing that was typed is lost, and every way to confirm works.
    """
    return not is_recent(request)


def is_recent(request: PortalRequest) -> bool:
    """Say whether this session's person proved who they are at most RECENT seconds ago, in whatever way.

    Single sign-on may vouch for somebody whom it asked long before: that moment is the record's `proved_at`.
    """
    records = get_authentication_records(request, request.user)
    return any(0 <= time.time() - record.get("proved_at", record["at"]) <= RECENT for record in records)


def page_of(request: PortalRequest) -> str:
    """Return the path of the page that the browser shows: for htmx and forms, not the address they are sent to."""
    if request.htmx:
        return request.htmx.current_url_abs_path or reverse("home")
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    referer = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(referer, allowed_hosts={request.get_host()}):
        return urlsplit(referer).path or reverse("home")
    return reverse("home")
