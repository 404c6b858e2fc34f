"""Loaded by schemathesis itself, through SCHEMATHESIS_HOOKS."""

import itertools
import re
from urllib.parse import urlencode

import schemathesis

LONGEST = 30_000  # bytes of a query: beyond 64 KiB of head the HTTP server refuses before the API is asked
IDEMPOTENCY = "Idempotency-Key"

_number = itertools.count()


@schemathesis.hook
def filter_case(context, case):
    return len(urlencode(case.query or {}, doseq=True)) < LONGEST


@schemathesis.hook
def before_call(context, case, kwargs):
    """Make a valid key unique: one that was used before would have nearly all requests refused."""
    headers = case.headers or {}
    if re.fullmatch("[!-~]{1,200}", str(headers.get(IDEMPOTENCY, ""))):
        headers[IDEMPOTENCY] = f"{headers[IDEMPOTENCY]}-{next(_number)}"
