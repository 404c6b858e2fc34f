"""Wake-ups between processes, over Redis: what one commits, the one that holds the engine's socket hears at once.

Best effort. Without Redis each process still looks by itself every few seconds, so nothing but time depends on this.
"""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from engines.controlplane import wakeups

log = logging.getLogger(__name__)

CHANNEL = "controlplane.wakeups"
PAUSE_SECONDS = 3.0  # after Redis was not there
SECONDS = 2.0  # for Redis to answer
GATHER_SECONDS = 0.01  # wake-ups of one burst go out together
MOST_WAITING = 10_000


class Relay:
    """Publishes this process's wake-ups and rings those of others, for as long as `run` runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = uuid.uuid4().hex
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)

    async def run(self) -> None:
        with wakeups.telling(self._take):
            await asyncio.gather(self._keep(self._publish), self._keep(self._listen))

    def _take(self, names: Sequence[str]) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            for name in filter(None, names):
                self._waiting.put_nowait(name)

    async def _keep(self, talk: "object") -> None:
        while True:
            try:
                async with redis.from_url(self._url, socket_timeout=None, socket_connect_timeout=SECONDS) as line:
                    await talk(line)  # type: ignore[operator]
            except (RedisError, OSError) as error:
                log.debug("no wake-ups between processes for now: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _publish(self, line: "redis.Redis") -> None:
        while True:
            names = {await self._waiting.get()}
            await asyncio.sleep(GATHER_SECONDS)
            while not self._waiting.empty():
                names.add(self._waiting.get_nowait())
            message = json.dumps({"from": self._name, "names": sorted(names)})
            async with asyncio.timeout(SECONDS):
                await line.publish(CHANNEL, message)

    async def _listen(self, line: "redis.Redis") -> None:
        async with line.pubsub() as heard:
            await heard.subscribe(CHANNEL)
            async for message in heard.listen():
                if message["type"] == "message":
                    self._heard(message["data"])

    def _heard(self, text: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(text)
            if said["from"] != self._name:
                wakeups.ring(*(str(name) for name in said["names"]))
