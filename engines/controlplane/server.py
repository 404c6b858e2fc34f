"""The control plane as a server: HTTP through Django, engines' sockets, and what runs in between."""

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.db.models import Q

from engines.controlplane import cloud, clouds, connection, dispatch, extend, idempotency, restart, sessions, watch
from engines.controlplane.connection import Message, Receive, Send
from engines.controlplane.database import aside, on_rows
from engines.controlplane.direct import Direct
from engines.controlplane.middleware import TOO_LARGE
from engines.controlplane.relay import Relay
from engines.controlplane.streams import Cut
from engines.controlplane.wakeups import CLOUD, DISPATCHER, listening

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0  # how long a queued task waits if every wake-up is lost
CLOUD_SECONDS = 2.0
CALLS_AT_ONCE = 3  # to one provider, about machines: what hangs at one of them holds up few others
TIDY, TIDY_SECONDS = "tidy", 2.0
SOCKETS = "sockets"
SOCKETS_SECONDS = 5.0  # a wake-up of a socket that was lost costs at most this
LONGEST_PAUSE = 0.02  # seconds between two rounds of a burst of wake-ups
FULL_COLLECTION = 50  # smaller ones later, where Python has it after 10
SWITCH_SECONDS = 0.0005  # after which a busy thread lets another one go on


class Server:
    """The ASGI application."""

    def __init__(self, django: ASGIHandler) -> None:
        self._django = django
        self._direct = Direct()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            read = await _read(scope, receive)
            if read is not None and self._direct.serves(read[0]):
                await self._direct.answer(*read, send)
            elif read is not None:
                # A stream that is cut is left unfinished: the server under us then drops the connection.
                with contextlib.suppress(Cut):
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
    try:
        left = await on_rows(sessions.forget_own)
        await on_rows(cloud.begin_anew)
        log.info("let go of %d sessions that an earlier process left", left)
        loops = [
            _sweep(DISPATCHER, SWEEP_SECONDS, dispatch.run),
            _sweep(SOCKETS, SOCKETS_SECONDS, _look_at_sockets),
            _sweep(TIDY, TIDY_SECONDS, _tidy_up),
        ]
        for machines in clouds.PROVIDERS.values():
            look = partial(_look_around, machines)
            run = partial(_aside_if_due, machines)
            loops += [_sweep(CLOUD, CLOUD_SECONDS, look, run) for _ in range(CALLS_AT_ONCE)]
        if settings.REDIS_URL:
            loops.append(Relay(settings.REDIS_URL).run())
        running = [asyncio.create_task(loop) for loop in loops]
        _spare_the_collector()
        # A frame's way leads through several threads; at Python's 5 ms each step may wait so long for a busy round.
        sys.setswitchinterval(SWITCH_SECONDS)
        await send({"type": "lifespan.startup.complete"})
    except Exception as error:  # said to the server, which then ends with a message instead of a stack
        await send({"type": "lifespan.startup.failed", "message": f"The control plane cannot start: {error}"})
        return
    await receive()
    for loop in running:
        loop.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await send({"type": "lifespan.shutdown.complete"})


def _spare_the_collector() -> None:
    """Take what was loaded at start out of garbage collection, and look seldom through all that came since.

    Looking through either, or through a thousand connections, stops every engine for 0.1 s, and finds next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION)


async def _sweep(
    name: str,
    seconds: float,
    look: Callable[[], None],
    run: Callable[[Callable[[], None]], Awaitable[None]] = on_rows,
) -> None:
    """Look at every wake-up and every so many seconds, whatever happens."""
    with listening(name) as bell:
        while True:
            bell.clear()
            began = time.monotonic()
            try:
                await run(look)
            except Exception:  # the next round is the retry
                log.exception("a round of the %s failed", name)
            took = time.monotonic() - began
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await bell.wait()
            # As long as the round took: in a burst it has at most half of a thread.
            await asyncio.sleep(min(took, LONGEST_PAUSE))


async def _aside_if_due(machines: Q, look: Callable[[], None]) -> None:
    if await on_rows(_is_due, machines):
        await aside(look)


def _is_due(machines: Q) -> bool:
    return extend.is_due(machines) or cloud.is_due(machines)


def _look_at_sockets() -> None:
    watch.look()
    sessions.forget_silent()


def _look_around(machines: Q) -> None:
    extend.settle_held(machines)
    cloud.look_around(machines)


def _tidy_up() -> None:
    restart.give_up()
    idempotency.forget_old()
