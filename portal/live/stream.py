"""One page's stream: what waits to be sent to it. A slow reader finds its topics merged, never a queue."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from portal.live.viewers import Viewer

TOPICS_LIMIT = 200  # beyond that, one word says it all:
EVERYTHING = frozenset({"poll"})

# Said at the start, at each change, and every 15 s: a page that hears neither for long knows that its line is dead.
UP = b": ping\nevent: up\ndata: {}\n\n"
DOWN = b": ping\nevent: down\ndata: {}\n\n"


@dataclass(frozen=True)
class News:
    """Topics that changed, and their frame: encoded once, whatever the number of streams."""

    topics: frozenset[str]

    @cached_property
    def frame(self) -> bytes:
        return b"data: %s\n\n" % json.dumps({"topics": sorted(self.topics)}).encode()

    def __or__(self, other: "News") -> "News":
        together = self.topics | other.topics
        return News(together if len(together) <= TOPICS_LIMIT else EVERYTHING)


class Stream:
    __slots__ = ("_ended", "_news", "_signal", "_wake", "viewer")

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._news: News | None = None
        self._signal = b""
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def tell(self, news: News) -> None:
        self._news = self._news | news if self._news else news
        self._rouse()

    def signal(self, frame: bytes) -> None:
        """Put UP or DOWN before the news. Only the last one counts."""
        self._signal = frame
        self._rouse()

    def end(self) -> None:
        self._ended = True
        self._rouse()

    async def next(self) -> bytes:
        """Wait for something to send, and return all of it; b"" at the end."""
        while not (self._ended or self._signal or self._news):
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._ended:
            return b""
        frame = self._signal + (self._news.frame if self._news else b"")
        self._signal, self._news = b"", None
        return frame

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def news_from(topics: Iterable[object]) -> News:
    return News(frozenset(str(topic) for topic in topics)) | News(frozenset())
