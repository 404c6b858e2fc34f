"""An engine's socket: GET /engines/{id}/ws, subprotocol engines.v1, ASGI.

Two coroutines each. One reads frames and answers them; the other sends what the database says is due, woken by
news, or by the look of `watch` if that was lost. Neither knows anything that a restart of this process would lose.
"""

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from django.db import DatabaseError

from engines import wire
from engines.controlplane import auth, formats, frames, hearing, problems, reconcile, sending, sessions
from engines.controlplane.database import on_rows
from engines.controlplane.models import Engine
from engines.controlplane.problems import Problem
from engines.controlplane.sessions import Over, Session
from engines.controlplane.wakeups import listening
from portal.failpoints import failpoint
from portal.logs import request_id

log = logging.getLogger(__name__)

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

PATH = re.compile(r"(?:/v1)?/engines/([A-Za-z0-9_-]{1,40})/ws")
HELLO_SECONDS = 10.0  # to say hello after the connection
SEND_SECONDS = 10.0  # for one frame to go out; a reader slower than that is as good as gone
FRAMES_A_SECOND = 200.0  # of one engine in the long run; what is more waits, and TCP makes the sender wait
FRAMES_AT_ONCE = 1000.0
BYTES_A_FRAME = 10_000  # a longer one counts as several
KEY = "engines.key"  # in the scope: the id of the key, once it is known
CLOSE_TOO_LARGE = 1009
CLOSE_ERROR = 1011


async def serve(scope: Message, receive: Receive, send: Send) -> None:
    """Hold one connection from handshake to close."""
    request_id.set(f"socket-{uuid.uuid4().hex[:12]}")
    await receive()
    try:
        session = await on_rows(_admit, scope)
    except DatabaseError:
        log.exception("a handshake failed")
        await _deny(scope, send, problems.internal_error())
        return
    except Problem as problem:
        _log_refusal(scope, problem)
        await _deny(scope, send, problem)
        return
    await send({"type": "websocket.accept", "subprotocol": wire.SUBPROTOCOL})
    try:
        await _hold(Line(receive, send), session)
    finally:
        # Even when this coroutine is cancelled. If it is not reached, the next start clears the session.
        await asyncio.shield(on_rows(sessions.end, session))


def _admit(scope: Message) -> Session:
    """Check the handshake. Raises Problem."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    path = PATH.fullmatch(scope["path"])
    if path is None:
        raise problems.not_found("socket")
    key = auth.who(headers.get("authorization", ""), _address(scope))
    scope[KEY] = key.pk
    auth.may(key, "engines:write")
    if "origin" in headers:
        raise Problem(403, "forbidden", "This socket is for engines, not for browsers.")
    if wire.SUBPROTOCOL not in scope.get("subprotocols", ()):
        raise problems.invalid_request(f"Offer the subprotocol {wire.SUBPROTOCOL}.")
    engine = Engine.objects.filter(pk=path[1], team=key.team_id, deleted_at__isnull=True).first()
    if engine is None:
        raise problems.not_found("engine")
    return Session(engine_id=engine.pk, key_id=key.pk, address=_address(scope))


def _address(scope: Message) -> str:
    return str((scope.get("client") or ("",))[0])


def _log_refusal(scope: Message, problem: Problem) -> None:
    """Somebody with the wrong key, or somebody else's engine: an operator wants to see that, but not a flood of it."""
    path = PATH.fullmatch(scope["path"])
    level = logging.INFO if problem.status == 429 else logging.WARNING
    who = (path[1] if path else "unknown", scope.get(KEY, "unknown"), _address(scope))
    log.log(level, "engine %s, key %s, from %s: handshake refused, %s (%s)", *who, problem.code, problem.detail)


async def _deny(scope: Message, send: Send, problem: Problem) -> None:
    """Answer the handshake over HTTP where the server can, else by a close before the accept, which becomes a 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": wire.CLOSE_REFUSED})
        return
    version = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-api-version"), "")
    body, kind = formats.failure(version, problem, request_id.get())
    more = {"content-type": kind, "vary": formats.HEADER, "X-Request-ID": request_id.get(), **problem.headers}
    headers = [(name.lower().encode(), value.encode()) for name, value in more.items()]
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


class Pace:
    """How fast one engine is read, so that a flood of frames costs its sender time and the other engines none."""

    def __init__(self) -> None:
        self._left = FRAMES_AT_ONCE
        self._at = time.monotonic()

    async def take(self, count: float) -> None:
        """Count so many frames; wait if they come too fast."""
        at = time.monotonic()
        self._left = min(FRAMES_AT_ONCE, self._left + (at - self._at) * FRAMES_A_SECOND) - count
        self._at = at
        if self._left < 0:
            await asyncio.sleep(-self._left / FRAMES_A_SECOND)


class Line:
    """The two directions of the socket: whole frames, one sender at a time, patience with an end."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._sending = asyncio.Lock()
        self._pace = Pace()

    async def hear(self, seconds: float) -> frames.Incoming | None:
        """Return the next frame, None when the other side has hung up. Raises Over."""
        try:
            async with asyncio.timeout(seconds):
                message = await self._receive()
        except TimeoutError:
            raise Over(wire.CLOSE_SILENT, f"nothing was heard for {seconds:.0f} s") from None
        if message["type"] != "websocket.receive":
            return None
        text = message.get("text")
        if text is None:
            raise Over(wire.CLOSE_REFUSED, "frames are text")
        if len(text) > wire.FRAME_LIMIT or len(text.encode(errors="replace")) > wire.FRAME_LIMIT:
            raise Over(CLOSE_TOO_LARGE, f"a frame has more than {wire.FRAME_LIMIT} bytes")
        await self._pace.take(1 + len(text) / BYTES_A_FRAME)
        try:
            return frames.read(text)
        except frames.BadFrame as error:
            raise Over(wire.CLOSE_REFUSED, str(error)) from error

    async def say(self, out: Iterable[wire.Frame]) -> None:
        """Send the frames in order. Raises Over if the other side does not take them."""
        async with self._sending:
            for frame in out:
                failpoint(f"{frame['type']}.before_send")
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._send({"type": "websocket.send", "text": frames.text(frame)})
                except TimeoutError:
                    raise Over(wire.CLOSE_SILENT, "frames are not taken") from None
                failpoint(f"{frame['type']}.after_send")

    async def close(self, code: int, reason: str) -> None:
        # The other side may have been quicker.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})


async def _hold(line: Line, session: Session) -> None:
    try:
        hello = await line.hear(HELLO_SECONDS)
        if hello is None:
            return
        if not isinstance(hello, frames.Hello):
            raise Over(wire.CLOSE_REFUSED, "the first frame must be hello")
        with listening(session.engine_id) as bell:
            await line.say(await on_rows(reconcile.greet, session, hello))
            with sessions.held(session):
                await _first_of(_listen(line, session), _speak(line, session, bell))
    except Over as over:
        level = logging.INFO if session.boot_id else logging.WARNING  # its hello was not taken
        who = (session.engine_id, session.key_id, session.address)
        log.log(level, "engine %s, key %s, from %s: closing, %s", *who, over.reason)
        await line.close(over.code, over.reason)
    except (OSError, DatabaseError) as error:
        # The engine comes back by itself and says what it has: nothing is lost with the connection.
        log.warning("engine %s: connection ended by %s", session.engine_id, error)
        await line.close(CLOSE_ERROR, "something went wrong here; connect again")


async def _first_of(*coroutines: Any) -> None:
    """Run all until the first one ends, end the others, and raise what it raised."""
    running = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _listen(line: Line, session: Session) -> None:
    while (said := await line.hear(wire.DEAD_AFTER_SECONDS)) is not None:
        if not hearing.is_sign_of_life(session, said):
            await line.say(await on_rows(hearing.hear, session, said))


async def _speak(line: Line, session: Session, bell: asyncio.Event) -> None:
    while True:
        bell.clear()
        session.handed.clear()  # the rows say it, too, and may say more by now
        await line.say(await on_rows(sending.due, session))
        if not bell.is_set():
            await bell.wait()
            # Only while nothing else was in its way: what was handed over is as fresh as rows that were read now.
            await line.say(session.take_handed())
