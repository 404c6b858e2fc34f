"""The line to the control plane: register, connect, keep talking, and come back when it breaks."""

import asyncio
import contextlib
import json
import logging
import traceback
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from engines import wire
from engines.agent import host, proof
from engines.agent.backoff import LIMIT_SECONDS, Backoff
from engines.agent.config import Config
from engines.agent.engine import BROKEN, REFUSED, REPLACED, Engine
from engines.agent.frames import BadFrame, receive
from engines.agent.registration import Away, Refused, register
from engines.agent.say import count, say
from engines.agent.session import Session
from engines.agent.state import StateDir
from engines.agent.version import VERSION

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.0
HURRY_SECONDS = 1.0  # between two tries once this host wants the engine to go

# What goes wrong on a line is said in one line by this module.
logging.getLogger("websockets").setLevel(logging.CRITICAL)


class Link:
    def __init__(self, config: Config, state: StateDir, engine: Engine) -> None:
        self._config = config
        self._state = state
        self._engine = engine
        self._backoff = Backoff()
        self._registered = False
        self._was_welcome = False  # since the last registration

    async def hold(self) -> None:
        """Keep the engine connected until it is ending. Running tasks never notice."""
        while not self._engine.ending:
            try:
                await (self._talk() if self._registered else self._register())
            except Refused as refusal:
                say(f"{refusal}. Give the engine a key with the scope engines:write and start it again")
                self._engine.give_up(REFUSED)
            except Away as trouble:
                await self._pause(str(trouble))
            except Exception as error:  # the other process loop: a bug here must not end running tasks
                traceback.print_exception(error)
                if proof.in_doubt():  # a new version that cannot connect: nothing runs yet that its end could cut
                    self._engine.give_up(BROKEN)
                await self._pause(f"something unforeseen happened ({type(error).__name__})")

    async def _pause(self, why: str) -> None:
        if self._engine.ending:
            return
        seconds = min(self._backoff.take(), HURRY_SECONDS if self._engine.stopping else LIMIT_SECONDS)
        busy = f"; {count(len(self._engine.running), 'task')} running on" if self._engine.running else ""
        say(f"{why}; trying again in {seconds:.1f} s{busy}")
        if self._engine.stopping:
            await asyncio.sleep(seconds)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.hurry.wait(), seconds)

    async def _register(self) -> None:
        info = await asyncio.to_thread(host.system_info)
        registered = await register(self._config, self._state, self._engine.boot_id, info)
        self._engine.set_workers(registered["workers"])
        self._registered = True
        workers = count(len(registered["workers"]), "worker")
        say(f"registered as {registered['engine_id']} ({self._config.name}) with {workers}")

    async def _talk(self) -> None:
        """Hold one connection until it ends. Ends by raising Away, unless the next step is due at once."""
        url = f"{self._config.socket_url}/engines/{self._state.engine_id()}/ws"
        try:
            async with self._connect(url) as socket:
                if socket.subprotocol != wire.SUBPROTOCOL:
                    raise Away(f"the API does not speak {wire.SUBPROTOCOL}")
                try:
                    await self._converse(socket)
                except asyncio.CancelledError:
                    # Left to itself, the way out would call this an internal error.
                    await socket.close(reason="the engine leaves")
                    raise
        except InvalidStatus as error:
            self._turned_away(error.response.status_code)
        except ConnectionClosed as error:
            self._closed(error.rcvd.code if error.rcvd else 1006, error.rcvd.reason if error.rcvd else "")
        except (OSError, InvalidHandshake) as error:
            raise Away(f"no connection to {self._config.api_url} ({error or type(error).__name__})") from error

    def _connect(self, url: str) -> connect:
        return connect(
            url,
            additional_headers={"Authorization": f"Bearer {self._config.api_key.reveal()}"},
            user_agent_header=f"engines-agent/{VERSION}",
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            compression=None,
            proxy=None if self._config.local else True,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            # Both together: a server that is silent for DEAD_AFTER_SECONDS counts as gone.
            ping_interval=wire.HEARTBEAT_SECONDS,
            ping_timeout=wire.DEAD_AFTER_SECONDS - wire.HEARTBEAT_SECONDS,
            max_size=wire.FRAME_LIMIT,
        )

    def _turned_away(self, status: int) -> None:
        """A handshake has no words. Where it may be the key or the id, registering again tells which, or mends it."""
        self._registered = status not in (401, 403, 404)
        if not self._registered and self._was_welcome:
            self._was_welcome = False  # at once, but only once: an API of two minds must not be hammered
            say(f"the API answers {status} to the connection: registering again")
            return
        raise Away(f"the API answers {status} to the connection")

    def _closed(self, code: int, reason: str) -> None:
        if code == wire.CLOSE_REPLACED:
            say("another process has taken this engine's place: not connecting again")
            self._engine.give_up(REPLACED)
            return
        kind = {wire.CLOSE_REFUSED: "the API refuses this connection", wire.CLOSE_SILENT: "the API heard nothing"}
        words = f"{kind.get(code, 'the connection was lost')} ({code}{' ' + reason if reason else ''})"
        raise Away(words)

    async def _converse(self, socket: ClientConnection) -> None:
        session = self._engine.connected()
        writer = asyncio.create_task(_write(socket, session))
        try:
            async with asyncio.timeout(wire.DEAD_AFTER_SECONDS) as patience:
                while True:
                    self._receive(await socket.recv(), session)
                    if session.welcomed and patience.when() is not None:
                        patience.reschedule(None)
                        self._welcomed()
        except TimeoutError as error:
            raise Away("the API accepted the connection and then said nothing") from error
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, TimeoutError):
                await writer
            self._engine.disconnected()

    def _receive(self, message: str | bytes, session: Session) -> None:
        try:
            receive(message, self._engine, session)
        except BadFrame as error:
            say(f"left alone: {error}")

    def _welcomed(self) -> None:
        self._was_welcome = True
        self._backoff.reset()
        proof.welcomed()
        say(f"connected to {self._config.api_url}")


async def _write(socket: ClientConnection, session: Session) -> None:
    """Send whatever is due, for as long as the connection lasts."""
    try:
        await _send(socket, session.hello)
        while True:
            session.news.clear()
            while (frame := session.next_frame()) is not None:
                await _send(socket, frame)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(session.seconds_until_due()):
                    await session.news.wait()
    except Exception:
        # Without a writer the reader would wait for answers to questions nobody asked.
        socket.transport.close()
        raise


async def _send(socket: ClientConnection, frame: Any) -> None:
    """Raises TimeoutError when the other side takes nothing for so long that it counts as gone."""
    async with asyncio.timeout(wire.DEAD_AFTER_SECONDS):
        await socket.send(json.dumps(frame))
