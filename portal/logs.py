"""The request id: minted at the edge, carried into every log line and audit entry of that request or task."""

import logging
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Django reports 4xx and 5xx when the request's context is over already, and gives the request along.
        given = getattr(getattr(record, "request", None), "request_id", None)
        record.request_id = given or request_id.get()
        return True
