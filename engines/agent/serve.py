"""The engine process from start to exit code."""

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid

from engines.agent import proof
from engines.agent.config import Config
from engines.agent.engine import DELIVERY_SECONDS, DONE, LOCKED, RESTART, Engine
from engines.agent.link import Link
from engines.agent.say import say
from engines.agent.state import Locked, StateDir
from engines.agent.version import VERSION

ECHO_SECONDS = 1.0  # Ctrl-C reaches the engine and its supervisor, whose SIGTERM then is no second request


async def serve(config: Config) -> int:
    """Run the engine until it has a reason to go; return the exit code."""
    say(f"engine {config.name} {VERSION}, process {os.getpid()}, for {config.api_url}")
    if config.api_url.startswith("http:") and not config.local:
        say("the API address is not https: the key travels unprotected")
    try:
        state = StateDir(config.state_dir)
    except (Locked, OSError) as error:
        say(f"cannot start: {error}")
        return LOCKED
    delivery = DELIVERY_SECONDS if config.grace is None else min(DELIVERY_SECONDS, max(1.0, config.grace))
    flags = sys.argv[2:]  # after `serve`: a new version must be able to start with them
    engine = Engine(state, uuid.uuid4().hex, config.heartbeat_seconds, delivery, flags)
    Signals(engine, config.grace).install()
    link = Link(config, state, engine)
    while (code := await _until_gone(engine, link)) == RESTART:
        if engine.stopping:  # asked on this host in the meantime, which goes before an update
            code = DONE
            break
        await engine.warm.ended()  # a process would stay behind as a child that nobody knows
        _start_again(engine)
    await engine.ended()
    say(f"bye ({code})")
    return code


def _start_again(engine: Engine) -> None:
    """Become the file that lies in this one's place, as it was started. Returns only if that fails."""
    say(f"starting again, process {os.getpid()}")
    try:
        proof.start_again()
    except OSError as error:
        engine.stay(f"{sys.executable} cannot be started: {error.strerror}")


async def _until_gone(engine: Engine, link: Link) -> int:
    line = asyncio.create_task(link.hold())
    code = await engine.gone
    line.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await line
    return code


class Signals:
    """The first SIGTERM or SIGINT asks, the second forces."""

    def __init__(self, engine: Engine, grace: float | None) -> None:
        self._engine = engine
        self._grace = grace
        self._first: tuple[signal.Signals, float] | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.received, number)

    def received(self, number: signal.Signals) -> None:
        if self._first is None:
            self._first = (number, time.monotonic())
            self._engine.stop()
            if self._grace is not None:
                asyncio.get_running_loop().call_later(self._grace, self._engine.cut)
        elif not self._echo(number):
            self._engine.force()

    def _echo(self, number: signal.Signals) -> bool:
        """Whether this is the same request once more, by another way."""
        assert self._first is not None
        first, at = self._first
        return number != first and time.monotonic() - at < ECHO_SECONDS
