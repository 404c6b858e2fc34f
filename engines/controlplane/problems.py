"""What can go wrong with a request, in the contract's codes (ENGINES_API.md section 5).

Problem is the one exception that becomes an answer; the functions below spell the ones that are raised here.
"""

from http import HTTPStatus
from typing import Any

# The code of an answer that Django or ninja made without one of ours.
CODES = {
    400: "invalid_request",
    401: "unauthorized",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "payload_too_large",
    422: "validation_error",
    429: "rate_limited",
}


class Problem(Exception):
    """An answer with a status of 400 or more. `meta` must be JSON."""

    def __init__(self, status: int, code: str, detail: str, **meta: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.meta = meta

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    @property
    def headers(self) -> dict[str, str]:
        """What an answer with it says outside of its body."""
        found = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return found | ({"Retry-After": str(self.meta["retry_after"])} if "retry_after" in self.meta else {})


class NotBegun(Problem):
    """Nothing was done, whatever the status says: the same request may be sent again under its Idempotency-Key."""


def from_status(status: int) -> Problem:
    """Return a problem for a bare status code."""
    code = CODES.get(status, "internal_error" if status >= 500 else "invalid_request")
    return Problem(status, code, HTTPStatus(status).description or HTTPStatus(status).phrase)


def unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail)


def insufficient_scope(scope: str) -> Problem:
    return Problem(403, "insufficient_scope", f"This key lacks the scope {scope}.", required_scope=scope)


def not_found(what: str) -> Problem:
    return Problem(404, "not_found", f"There is no such {what}.")


def invalid_request(detail: str) -> Problem:
    return Problem(400, "invalid_request", detail)


def unknown_field(detail: str) -> Problem:
    return Problem(400, "validation_error", detail)


def invalid_value(detail: str, **meta: Any) -> Problem:
    return Problem(422, "validation_error", detail, **meta)


def engine_offline(detail: str) -> Problem:
    return Problem(409, "engine_offline", detail)


def conflict(detail: str) -> Problem:
    return Problem(409, "conflict", detail)


def internal_error() -> Problem:
    # The traceback is for the log. What it says may be anything, so nothing of it goes out.
    return Problem(500, "internal_error", "Something went wrong here. The log knows it by the request id.")


def extend_failed(detail: str) -> Problem:
    return Problem(400, "extend_failed", detail)


def payment_required(detail: str, **meta: Any) -> Problem:
    return Problem(402, "payment_required", detail, **meta)
