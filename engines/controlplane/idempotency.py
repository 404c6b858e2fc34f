"""Idempotency-Key: a request that changes something and is sent again is answered as the first time, not done again.

What is kept is a success, or an answer that leaves open what happened. A refusal changed nothing, so the same key
may be used again. A request that died half-way is never repeated by us: 409 `outcome_unknown`, read and decide.
"""

import functools
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.utils.timezone import now

from engines.controlplane import problems
from engines.controlplane.auth import key_of
from engines.controlplane.models import Answered, atomic
from engines.controlplane.problems import NotBegun, Problem

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
HEEDS = "heeds_idempotency_key"  # set on a view that does
LONGEST = 255
UNDER_WAY = timedelta(seconds=200)  # longer than any request takes: an order asks its cloud twice, 75 s at most each
KEPT = timedelta(hours=24)

View = Callable[..., HttpResponse]


def once(view: View) -> View:
    """Have a view heed Idempotency-Key."""

    @functools.wraps(view)
    def heeding(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        text = request.headers.get(HEADER, "")
        if not text:
            return view(request, *args, **kwargs)
        row = _begin(request, text)
        return _replay(row) if row.status else _do(row, lambda: view(request, *args, **kwargs))

    setattr(heeding, HEEDS, True)
    return heeding


def _begin(request: HttpRequest, text: str) -> Answered:
    """Return the row of this request: new, or answered before. Raises Problem 409 or 422."""
    if len(text) > LONGEST or not text.isprintable():
        raise problems.invalid_value(f"{HEADER} must be 1 to {LONGEST} printable characters.")
    what = f"{request.method} {request.path_info}\n".encode() + request.body
    fingerprint = hashlib.sha256(what).hexdigest()
    key = key_of(request)
    try:
        with atomic():
            return Answered.objects.create(key=key, text=text, fingerprint=fingerprint)
    except IntegrityError:
        row = Answered.objects.filter(key=key, text=text).first()
    if row is None:
        raise _under_way()
    if row.fingerprint != fingerprint:
        raise problems.invalid_value(f"This {HEADER} was used for another request.")
    if row.status is None:
        raise _under_way() if now() - row.created_at < UNDER_WAY else _unknown()
    return row


def _under_way() -> Problem:
    return Problem(409, "request_in_progress", "The same request is under way. Ask again in a moment.", retry_after=1)


def _unknown() -> Problem:
    return Problem(
        409,
        "outcome_unknown",
        f"The first request with this {HEADER} ended without an answer. Read what it was to change, then decide.",
    )


def _do(row: Answered, act: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        answer = act()
    except Problem as problem:
        if problem.status < 500 or isinstance(problem, NotBegun):
            Answered.objects.filter(pk=row.pk).delete()
        raise
    # An answer that holds a secret is not kept: a copy of this table must open nothing.
    body = "" if getattr(answer, "shown_once", False) else answer.content.decode()
    messages = getattr(answer, "messages", [])
    Answered.objects.filter(pk=row.pk).update(status=answer.status_code, body=body, messages=messages)
    return answer


def _replay(row: Answered) -> HttpResponse:
    if row.status != 204 and not row.body:
        raise Problem(
            409,
            "shown_once",
            f"The request with this {HEADER} was carried out; its answer is shown once. If it was lost, revoke what "
            "it made and ask under another key.",
        )
    kind = "application/json" if row.body else ""
    again = HttpResponse(row.body, status=row.status, content_type=kind, headers={REPLAYED: "true"})
    again.messages = row.messages or []  # type: ignore[attr-defined]  # for the middleware, as the first time
    return again


def forget_old() -> None:
    Answered.objects.filter(created_at__lt=now() - KEPT).delete()
