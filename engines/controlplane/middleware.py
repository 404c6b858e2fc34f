"""Every answer of this API leaves through here, whoever made it: view, router, framework or crash."""

import logging
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from engines.controlplane import formats, problems
from engines.controlplane.problems import Problem

log = logging.getLogger(__name__)

# Read by people and tools that know nothing of formats.
AS_IS = ("/healthz", "/openapi.json")
TOO_LARGE = "engines.body_too_large"  # set on the ASGI scope by asgi.py, which stops reading there


class Refusal(HttpResponse):
    """An answer that still has to get its format."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(status=problem.status)
        self.problem = problem


class Format:
    """Strip /v1, refuse bodies that are too large, and put every answer in the format that was asked for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith("/v1/"):
            request.path_info = request.path = request.path_info.removeprefix("/v1")
        problem = _at_the_door(request)
        response = Refusal(problem) if problem else self.get_response(request)
        as_is = response.streaming or request.path_info in AS_IS
        if response.status_code >= 400 or not as_is:
            _render(request, response)
        patch_vary_headers(response, [formats.HEADER])
        response.headers.setdefault("Cache-Control", "no-store")
        _count(request, response)
        if not response.streaming and response.status_code != 204:
            response["Content-Length"] = str(len(response.content))
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        log.exception("%s %s failed", request.method, request.path_info)
        return Refusal(problems.internal_error())


def _render(request: HttpRequest, response: HttpResponse) -> None:
    version = request.headers.get(formats.HEADER, "").strip()
    if response.status_code == 204:
        return
    if response.status_code < 400:
        messages = getattr(response, "messages", ())
        response.content = formats.success(version, response.status_code, response.content, messages)
        return
    problem = getattr(response, "problem", None) or problems.from_status(response.status_code)
    request_id = getattr(request, "request_id", "")
    response.content, response["Content-Type"] = formats.failure(version, problem, request_id)
    for name, value in problem.headers.items():
        response[name] = value


def _count(request: HttpRequest, response: HttpResponse) -> None:
    """Say what is left of the caller's allowance, as the contract's older documentation spells it."""
    allowance = getattr(request, "allowance", None)
    if allowance is not None:
        response["X-RateLimit-Remaining"] = str(allowance.remaining)
        response["X-RateLimit-Reset"] = str(allowance.reset)


def _at_the_door(request: HttpRequest) -> Problem | None:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if TOO_LARGE in getattr(request, "scope", {}) or (announced.isdecimal() and int(announced) > limit):
        return Problem(413, "payload_too_large", f"The body may have {limit} bytes.")
    if "\0" in request.path_info:  # PostgreSQL takes no text with one, so nothing is called that
        return problems.from_status(404)
    return None
