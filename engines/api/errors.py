"""
What can go wrong when we call the Engines API:

* ApiError
  - KeyRejected   401 or 403: the person must enter another key
  - EngineGone    404 for an engine: the API no longer knows it
  - Refused       any other 4xx, and v1's `success: false`: the request was understood and nothing was done
  - ApiBusy       429 and 5xx: try later, after `retry_after` seconds if the API said so
  - NotSent       no connection came about: provably nothing was sent
  - NoAnswer      the connection broke or the time was up: whether it was done is unknown
  - BadAnswer     an answer that cannot be read, a redirect, one too long: whether it was done is unknown

`str(error)` is for people. No error holds the key, a request, or a header that was sent.
"""

from typing import Any


class ApiError(Exception):
    """`raw` is the answer's text, redacted and cut to 2 kB; `code` the API's own word, an open string."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        meta: dict[str, Any] | None = None,
        request_id: str = "",
        raw: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.meta = meta or {}
        self.request_id = request_id
        self.raw = raw
        self.retry_after = retry_after


class KeyRejected(ApiError):
    pass


class EngineGone(ApiError):
    pass


class Refused(ApiError):
    pass


class ApiBusy(ApiError):
    pass


class NotSent(ApiError):
    pass


class NoAnswer(ApiError):
    pass


class BadAnswer(ApiError):
    pass


def answer_of(error: Exception) -> dict[str, Any]:
    """Return what is kept of an error for people: of an ApiError its answer too, as far as it may be stored."""
    if not isinstance(error, ApiError):
        return {"message": str(error)}
    return {"status": error.status, "code": error.code, "message": str(error), "raw": error.raw}
