"""The live events of one process: a single connection to the broker, fanned out to any number of streams."""

import asyncio
import json
import logging
import random
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import redis.asyncio
from django.conf import settings
from django.db import Error as DatabaseError
from redis.asyncio.client import PubSub

from portal.live.bus import CHANNEL
from portal.live.stream import DOWN, UP, Stream, news_from
from portal.live.viewers import Viewer, still_allowed

log = logging.getLogger(__name__)

SUBSCRIBE_SECONDS = 1.0
SILENCE_SECONDS = 5.0  # then the broker is asked whether it is there, and has as long again to say so
CHECK_SECONDS = 5.0
PINGS_EVERY = 3  # checks
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
STREAMS_EACH = 20  # of one person: a browser needs one, whatever the number of its tabs


class Hub:
    """Lives as long as its event loop; begins to listen with its first stream."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.get_running_loop()
        self._url = url
        self._streams: defaultdict[int, set[Stream]] = defaultdict(set)  # of a team
        self._of: defaultdict[int, dict[Stream, None]] = defaultdict(dict)  # of a person, the oldest first
        self._up: bool | None = None  # None until the first attempt has gone one way or the other
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    @contextmanager
    def stream(self, viewer: Viewer) -> Iterator[Stream]:
        """A stream of the viewer's team, from now on: what is published after this call is not missed.

        One too many ends the person's oldest: most likely nobody is at its other end any more.
        """
        self._start()
        stream = Stream(viewer)
        if self._up is not None:
            stream.signal(UP if self._up else DOWN)
        if self._closing:
            stream.end()
        self._streams[viewer.team_id].add(stream)
        self._make_room(viewer.user_id)
        self._of[viewer.user_id][stream] = None
        try:
            yield stream
        finally:
            self._forget(stream)

    def _make_room(self, user_id: int) -> None:
        while len(self._of[user_id]) >= STREAMS_EACH:
            oldest = next(iter(self._of[user_id]))
            del self._of[user_id][oldest]
            oldest.end()

    def _forget(self, stream: Stream) -> None:
        team_id, user_id = stream.viewer.team_id, stream.viewer.user_id
        self._streams[team_id].discard(stream)
        if not self._streams[team_id]:
            del self._streams[team_id]
        self._of[user_id].pop(stream, None)
        if not self._of[user_id]:
            del self._of[user_id]

    @property
    def streams(self) -> int:
        """How many are open. May be asked by any thread."""
        return sum(map(len, list(self._streams.values())))

    def _start(self) -> None:
        if not self._tasks or any(task.done() for task in self._tasks):
            for task in self._tasks:
                task.cancel()
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._check())]

    def end_with_the_server(self) -> None:
        """End all streams when the server is told to stop: it would wait for them, and cut them off in the end."""
        server = signal.getsignal(signal.SIGTERM)
        if not callable(server) or threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.loop.call_soon_threadsafe(self._end_all)
            server(number, frame)

        signal.signal(signal.SIGTERM, stop)

    def _end_all(self) -> None:
        self._closing = True
        for stream in self._all():
            stream.end()

    def _all(self) -> list[Stream]:
        return [stream for streams in self._streams.values() for stream in streams]

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._subscription() as pubsub:
                    pause = FIRST_PAUSE
                    self._turn(up=True)
                    await self._relay(pubsub)
            except (redis.RedisError, OSError, TimeoutError) as error:
                if self._up is not False:
                    log.warning("live events are down, pages poll: %s", error or type(error).__name__)
                self._turn(up=False)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (spreads load, guards nothing)
            pause = min(pause * 2, LONGEST_PAUSE)

    @asynccontextmanager
    async def _subscription(self) -> AsyncIterator[PubSub]:
        broker = redis.asyncio.Redis.from_url(self._url, single_connection_client=False, max_connections=1)
        pubsub = broker.pubsub()
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await pubsub.psubscribe(f"{CHANNEL}*")
                while await pubsub.get_message(timeout=None) is None:
                    pass
            yield pubsub
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await broker.aclose()

    async def _relay(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=SILENCE_SECONDS)
            if message is not None:
                asked = False
                self._deliver(message)
            elif asked:
                raise redis.TimeoutError("the broker is silent")
            else:
                asked = True
                await pubsub.ping()

    def _deliver(self, message: dict[str, Any]) -> None:
        if message["type"] != "pmessage":
            return
        try:
            team_id = int(message["channel"].removeprefix(CHANNEL.encode()))
            news = news_from(json.loads(message["data"])["topics"])
        except (ValueError, KeyError, TypeError):
            log.warning("a live event that nobody here wrote was dropped")
            return
        for stream in self._streams.get(team_id, ()):
            stream.tell(news)

    def _turn(self, *, up: bool) -> None:
        if up is not self._up:
            self._up = up
            self._say()

    def _say(self) -> None:
        for stream in self._all():
            stream.signal(UP if self._up else DOWN)

    async def _check(self) -> None:
        """End the streams of whoever was signed out or removed from the team; show the others that we are here."""
        check = 0
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            check += 1
            await self._end_uninvited()
            if check % PINGS_EVERY == 0:
                self._say()

    async def _end_uninvited(self) -> None:
        streams = self._all()
        try:
            allowed = await still_allowed({stream.viewer for stream in streams}) if streams else set()
        except DatabaseError as error:  # without the database the fragments answer nothing either
            log.warning("cannot check who may watch: %s", error)
            return
        for stream in streams:
            if stream.viewer not in allowed:
                stream.end()


_hubs: list[Hub] = []  # one at most: a process serves from one event loop


def open_streams() -> int:
    return sum(one.streams for one in _hubs)


def hub() -> Hub:
    """Return the hub of the running event loop."""
    if not _hubs or _hubs[0].loop is not asyncio.get_running_loop():
        _hubs[:] = [Hub(settings.REDIS_URL)]
        _hubs[0].end_with_the_server()
    return _hubs[0]
