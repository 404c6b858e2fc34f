"""How much one person, and one team, may ask in a minute: a script that runs wild, or a stolen session, starves nobody.

Counted by each portal process for itself. Sign-in has its own counts, in the database (portal/accounts/adapter.py).
"""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin
from limits import parse
from limits.strategies import FixedWindowRateLimiter

from portal.counting import Memory

EXPORTS = {"audit-export", "cloud-time-csv"}  # each may read a whole log

limiter = FixedWindowRateLimiter(Memory())


def kind_of(url_name: str, method: str) -> str:
    """Return which limit a request falls under: export, write or read."""
    if url_name in EXPORTS:
        return "export"
    return "read" if method in ("GET", "HEAD", "OPTIONS") else "write"


class Rates(MiddlewareMixin):
    """Answers 429 with Retry-After when a person's minute, or their team's, is used up. Access has set the team."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        team = getattr(request, "team", None)
        if team is None:  # a public address
            return None
        url_name = request.resolver_match.url_name or "" if request.resolver_match else ""
        kind = kind_of(url_name, request.method or "GET")
        # What a person is refused does not count against their team.
        wait = _take(kind, f"user {request.user.pk}") or _take(kind, f"team {team.pk}", settings.TEAM_RATE_FACTOR)
        if not wait:
            return None
        response = render(request, "429.html", status=429)
        response.headers["Retry-After"] = str(wait)
        return response


def _take(kind: str, who: str, times: int = 1) -> int:
    """Count one request; return the seconds until there is room again, 0 if there is."""
    limit = parse(settings.PORTAL_RATES[kind])
    limit = type(limit)(limit.amount * times, limit.multiples)
    if limiter.hit(limit, kind, who):
        return 0
    return max(1, round(limiter.get_window_stats(limit, kind, who).reset_time - time.time()))
