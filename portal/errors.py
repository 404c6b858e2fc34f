"""Error pages: a plain sentence, what to do, and the request id. No traceback reaches a person."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

LAST_RESORT = "Something went wrong here. If it happens again, tell who runs this portal, with the request id {}."


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def too_many(request: HttpRequest) -> HttpResponse:
    return render(request, "429.html", status=429)


def server_error(request: HttpRequest) -> HttpResponse:
    """Without the request's context: what fills that may be what is broken."""
    request_id = getattr(request, "request_id", "-")
    try:
        return HttpResponse(render_to_string("500.html", {"request_id": request_id}), status=500)
    except Exception:  # static files not collected, a broken template: still no traceback
        return HttpResponse(LAST_RESORT.format(request_id), status=500, content_type="text/plain; charset=utf-8")
