"""The request id: minted at the edge, carried into every log line and audit entry of that request or task."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")


CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
CONTROL |= {0x2028: "\\u2028", 0x2029: "\\u2029"}


@contextmanager
def on_behalf_of(name: str) -> Iterator[None]:
    """Log lines within this carry that request's id."""
    token = request_id.set(name or "-")
    try:
        yield
    finally:
        request_id.reset(token)


class Line(logging.Formatter):
    """One entry, one line: what somebody wrote into an address or a name cannot start a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class's name)
        return super().formatMessage(record).translate(CONTROL)


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Django reports 4xx and 5xx when the request's context is over already, and gives the request along.
        given = getattr(getattr(record, "request", None), "request_id", None)
        record.request_id = given or request_id.get()
        return True
