"""The control plane as a server: HTTP through Django, engines' sockets, and what runs in between."""

import asyncio
import contextlib
import logging

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

from engines.controlplane import connection, dispatch, sessions
from engines.controlplane.connection import Message, Receive, Send
from engines.controlplane.database import on_rows
from engines.controlplane.middleware import TOO_LARGE
from engines.controlplane.wakeups import DISPATCHER, listening

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0  # how long a queued task waits if every wake-up is lost
LEAST_PAUSE = 0.02  # seconds between two rounds: a burst of wake-ups is one round


class Server:
    """The ASGI application."""

    def __init__(self, django: ASGIHandler) -> None:
        self._django = django

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            read = await _read(scope, receive)
            if read is not None:
                await self._django(read[0], _replay(read[1], receive), send)
        elif scope["type"] == "websocket":
            await connection.serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)


async def _read(scope: Message, receive: Receive) -> tuple[Message, bytes] | None:
    """Read the body up to the limit: Django alone would take any length that was not announced.

    Beyond it nothing more is read and the scope is marked. None if the client hangs up half-way.
    """
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0
    body = bytearray()
    more = not _announces_more_than(limit, scope)
    while more and len(body) <= limit:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if more or len(body) > limit or _announces_more_than(limit, scope):
        return {**scope, TOO_LARGE: True}, b""
    return scope, bytes(body)


def _announces_more_than(limit: int, scope: Message) -> bool:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return any(value.isdigit() and int(value) > limit for value in lengths)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, once, and then the hang-up. What is still coming in is dropped as it comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if first:
            return first.pop()
        while (message := await receive())["type"] == "http.request":
            continue
        return message

    return replay


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    sweeper = None
    try:
        left = await on_rows(sessions.forget_own)
        log.info("let go of %d sessions that an earlier process left", left)
        sweeper = asyncio.create_task(_sweep())
        await send({"type": "lifespan.startup.complete"})
    except Exception as error:  # said to the server, which then ends with a message instead of a stack
        await send({"type": "lifespan.startup.failed", "message": f"The control plane cannot start: {error}"})
        return
    await receive()
    sweeper.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeper
    await send({"type": "lifespan.shutdown.complete"})


async def _sweep() -> None:
    """Place tasks at every wake-up and every second, whatever happens."""
    with listening(DISPATCHER) as bell:
        while True:
            bell.clear()
            try:
                await on_rows(_round)
            except Exception:  # one of the two process loops: the next round is the retry
                log.exception("a round of the dispatcher failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await bell.wait()
            await asyncio.sleep(LEAST_PAUSE)


def _round() -> None:
    sessions.forget_silent()
    dispatch.run()
