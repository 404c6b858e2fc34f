"""Known devices: a browser on which somebody has signed in keeps a signed cookie that says so.

It proves nothing at sign-in and opens nothing. It only sorts tries: those from a person's own browser are counted apart
from everybody else's, so that no stranger's guesses can lock that person out.
"""

import secrets
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

COOKIE = settings.DEVICE_COOKIE_NAME
SALT = "portal.accounts.devices"
AGE = 180 * 24 * 3600  # seconds, from the last sign-in
PEOPLE = 5  # who share a browser; the one longest away is forgotten


def known(request: HttpRequest, email: str) -> str:
    """Return the browser's id if the person of this address has signed in on it before, else ""."""
    cookie = _read(request)
    return str(cookie["id"]) if email.lower() in cookie.get("people", []) else ""


def remember(request: HttpRequest, response: HttpResponse, email: str) -> None:
    """Make the browser a known one of this person. To be called after a whole sign-in only."""
    cookie = _read(request)
    others = [one for one in cookie.get("people", []) if one != email.lower()]
    value = {"id": cookie.get("id") or secrets.token_urlsafe(16), "people": [email.lower(), *others][:PEOPLE]}
    response.set_cookie(
        COOKIE,
        signing.dumps(value, salt=SALT),
        max_age=AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read(request: HttpRequest) -> dict[str, Any]:
    try:
        value = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=AGE)
    except signing.BadSignature:
        return {}
    return value if isinstance(value, dict) else {}
