"""What holds for every request: an id, a content policy, and sign-in pages that never land in a table cell."""

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django_htmx.http import HttpResponseClientRedirect

from portal.logs import on_behalf_of

Next = Callable[[HttpRequest], HttpResponse]

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "report-uri /csp-report",
    ]
)


class RequestId:
    """Give the request an id, the sender's if it is a sane one; it is in the answer, the log and the audit."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        name = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        request.request_id = name  # type: ignore[attr-defined]
        with on_behalf_of(name):
            response = self.get_response(request)
        response["X-Request-ID"] = name
        return response


class ContentSecurityPolicy:
    """Own scripts and styles only; nothing inline, nothing from elsewhere. Signed-in pages are not kept by caches."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        if not request.path.startswith("/static/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


class HtmxErrors:
    """An expired session moves the whole page to sign-in: a sign-in page is never swapped into a fragment."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if getattr(request, "htmx", False) and response.status_code in (301, 302) and "Location" in response:
            return HttpResponseClientRedirect(response["Location"])
        return response
