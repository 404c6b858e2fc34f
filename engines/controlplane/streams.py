"""Streams: an engine, a task, or the whole team, as server-sent events or lines of JSON (ENGINES_API.md section 6).

Each reads rows again at every wake-up and every few seconds and sends what differs, so no change is lost with a
wake-up. A stream that must end before its subject did is cut, not closed: clients tell the two apart.
"""

import asyncio
import contextlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse

from engines.controlplane import keys
from engines.controlplane.auth import key_of
from engines.controlplane.database import on_rows
from engines.controlplane.problems import Problem
from engines.controlplane.wakeups import listening, seen

HEARTBEAT_SECONDS = 10.0
TICK_SECONDS = 2.0  # a wake-up that was lost costs at most this
LEAST_PAUSE = 0.1  # between two looks: a burst of changes is one event
MOST_PER_KEY = 50
MOST_REMEMBERED = 10_000  # documents of one stream, to tell news from repetition
LINES = ("application/x-ndjson", "application/jsonl")
EVENTS = "text/event-stream"

_open: dict[str, int] = {}


class Cut(Exception):
    """The stream ends here, and what it tells of does not."""


# What a stream reads: documents to send, each with its name, and whether the last one was sent.
Look = Callable[[], tuple[list[tuple[str, dict[str, Any]]], bool]]


def stream(request: HttpRequest, scope: str, names: tuple[str, ...], look: Look, *, named: bool) -> Any:
    """Answer with a stream. `named`: lines carry `event` and `data`; else they are the bare objects."""
    key = key_of(request)
    if _open.get(key.pk, 0) >= MOST_PER_KEY:
        raise Problem(429, "rate_limited", f"This key has {MOST_PER_KEY} streams open already.", retry_after=10)
    accepted = request.headers.get("Accept", "")
    kind = next((line for line in LINES if line in accepted), EVENTS)
    write = FORMS.get(kind, _as_lines)

    def allowed() -> bool:
        return bool(keys.serving([key.pk], scope))

    answer = StreamingHttpResponse(_counted(key.pk, _follow(names, look, allowed, write, named)), content_type=kind)
    answer.headers["Cache-Control"] = "no-cache"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


async def _counted(key_id: str, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    _open[key_id] = _open.get(key_id, 0) + 1
    try:
        async for part in parts:
            yield part
    finally:
        _open[key_id] -= 1
        if not _open[key_id]:
            del _open[key_id]


async def _follow(
    names: tuple[str, ...],
    look: Look,
    allowed: Callable[[], bool],
    write: Callable[[str, dict[str, Any] | None], bytes],
    named: bool,
) -> AsyncIterator[bytes]:
    sent: OrderedDict[str, int] = OrderedDict()
    beat_at = checked_at = time.monotonic()
    with listening(*seen(*names)) as bell:
        while True:
            bell.clear()
            found, over = await on_rows(look)
            for name, document in found:
                if _is_news(sent, f"{name} {document['id']}", document):
                    yield write(name if named else "", document)
                    beat_at = time.monotonic()
            if over:
                return
            await asyncio.sleep(LEAST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await bell.wait()
            if time.monotonic() - checked_at > TICK_SECONDS:
                checked_at = time.monotonic()
                if not await on_rows(allowed):
                    raise Cut
            if time.monotonic() - beat_at > HEARTBEAT_SECONDS:
                beat_at = time.monotonic()
                yield write("", None)


def _is_news(sent: OrderedDict[str, int], name: str, document: dict[str, Any]) -> bool:
    seen = hash(json.dumps(document, sort_keys=True))
    if sent.get(name) == seen:
        return False
    sent[name] = seen
    sent.move_to_end(name)
    while len(sent) > MOST_REMEMBERED:
        sent.popitem(last=False)
    return True


def _as_lines(name: str, document: dict[str, Any] | None) -> bytes:
    if document is None:
        return b'{"type":"heartbeat"}\n'
    return json.dumps({"event": name, "data": document} if name else document).encode() + b"\n"


def _as_events(name: str, document: dict[str, Any] | None) -> bytes:
    if document is None:
        return b": heartbeat\n\n"
    event = f"event: {name}\n" if name else ""
    return f"{event}data: {json.dumps(document)}\n\n".encode()


FORMS = {EVENTS: _as_events, LINES[0]: _as_lines}
