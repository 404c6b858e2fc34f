"""The hub: one connection to the broker, many streams, each of one team."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis

from portal.live import hub as hub_module
from portal.live.hub import Hub, hub
from portal.live.stream import DOWN, UP, Stream
from portal.live.viewers import Viewer
from tests.live.broker import Broker, absent, running, silent

ANNA = Viewer("session-a", 1, "hash", team_id=1, role="viewer")
BERT = Viewer("session-b", 2, "hash", team_id=2, role="viewer")


def say(broker: Broker, team_id: int, *topics: str) -> None:
    with redis.Redis.from_url(broker.url) as client:
        client.publish(f"live:{team_id}", json.dumps({"topics": topics}))


def topics_of(frame: bytes) -> list[str]:
    return json.loads(frame.decode().split("data: ")[-1])["topics"]


async def soon(waiting: Awaitable[bytes], seconds: float = 3) -> bytes:
    return await asyncio.wait_for(waiting, seconds)


@asynccontextmanager
async def streams(url: str, *viewers: Viewer) -> AsyncIterator[list[Stream]]:
    """Open a stream for each viewer, and wait for each one's first word."""
    hub = Hub(url)
    async with AsyncExitStack() as stack:
        found = [stack.enter_context(hub.stream(viewer)) for viewer in viewers]
        for stream in found:
            await soon(stream.next())
        yield found


def test_every_stream_of_a_team_hears_a_message(broker: Broker) -> None:
    async def scene() -> list[list[str]]:
        async with streams(broker.url, ANNA, ANNA) as (one, other):
            say(broker, 1, "engines")
            return [topics_of(await soon(one.next())), topics_of(await soon(other.next()))]

    assert asyncio.run(scene()) == [["engines"], ["engines"]]


def test_no_stream_hears_of_another_team(broker: Broker) -> None:
    async def scene() -> list[str]:
        async with streams(broker.url, ANNA, BERT) as (anna, bert):
            say(broker, 1, "engine:secret")
            say(broker, 2, "engine:own")
            await soon(anna.next())
            return topics_of(await soon(bert.next()))

    assert asyncio.run(scene()) == ["engine:own"]


def test_the_first_word_says_whether_events_can_be_expected(broker: Broker) -> None:
    async def scene(url: str) -> bytes:
        with Hub(url).stream(ANNA) as stream:
            return await soon(stream.next())

    assert asyncio.run(scene(broker.url)) == UP
    assert asyncio.run(scene(absent())) == DOWN
    with silent() as url:
        assert asyncio.run(scene(url)) == DOWN


def test_one_stream_too_many_of_a_person_ends_the_oldest(broker: Broker) -> None:
    async def scene() -> tuple[bytes, bytes, bytes]:
        async with streams(broker.url, BERT, ANNA, *[ANNA] * hub_module.STREAMS_EACH) as (bert, oldest, *others):
            say(broker, 1, "engines")
            say(broker, 2, "engines")
            return await soon(oldest.next()), await soon(others[0].next()), await soon(bert.next())

    ended, *heard = asyncio.run(scene())
    assert ended == b""
    assert [topics_of(frame) for frame in heard] == [["engines"], ["engines"]]


def test_streams_that_ended_do_not_count_and_are_not_kept(broker: Broker) -> None:
    async def scene() -> tuple[bytes, int]:
        hub = Hub(broker.url)
        with hub.stream(ANNA) as first:
            await soon(first.next())
            for _ in range(hub_module.STREAMS_EACH * 2):
                with hub.stream(ANNA):
                    pass
            say(broker, 1, "engines")
            return await soon(first.next()), hub.streams

    frame, left = asyncio.run(scene())
    assert (topics_of(frame), left) == (["engines"], 1)


def test_a_stream_that_comes_later_hears_the_state_at_once(broker: Broker) -> None:
    async def scene() -> bytes:
        hub = Hub(broker.url)
        with hub.stream(ANNA) as first:
            await soon(first.next())
            with hub.stream(BERT) as second:
                return await soon(second.next(), 0.05)

    assert asyncio.run(scene()) == UP


def test_it_says_down_when_the_broker_goes_and_up_when_it_is_back() -> None:
    async def scene(broker: Broker) -> list[bytes]:
        async with streams(broker.url, ANNA) as (stream,):
            broker.stop()
            gone = await soon(stream.next())
            broker.start()
            return [gone, await soon(stream.next())]

    with running() as broker:
        assert asyncio.run(scene(broker)) == [DOWN, UP]


def test_it_notices_a_broker_that_is_frozen(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_SECONDS", 0.1)

    async def scene() -> bytes:
        async with streams(broker.url, ANNA) as (stream,):
            await asyncio.sleep(0.3)  # longer than the silence: asked, it answered
            with broker.frozen():
                return await soon(stream.next())

    assert asyncio.run(scene()) == DOWN


def test_a_message_that_nobody_here_wrote_is_dropped(broker: Broker) -> None:
    async def scene() -> list[str]:
        async with streams(broker.url, ANNA) as (stream,):
            with redis.Redis.from_url(broker.url) as client:
                for channel, text in [("live:1", "not JSON"), ("live:1", "[]"), ("live:x", "{}"), ("live:1", "{}")]:
                    client.publish(channel, text)
            say(broker, 1, "engines")
            return topics_of(await soon(stream.next()))

    assert asyncio.run(scene()) == ["engines"]


def test_a_hundred_streams_share_one_connection(broker: Broker) -> None:
    async def scene() -> int:
        async with streams(broker.url, *[ANNA] * 100):
            return await asyncio.to_thread(broker.connections)

    before = broker.connections()
    assert asyncio.run(scene()) == before + 1


def test_the_end_of_the_loop_closes_the_connection(broker: Broker) -> None:
    async def scene() -> None:
        async with streams(broker.url, ANNA):
            pass

    before = broker.connections()
    asyncio.run(scene())
    assert broker.connections() == before


@pytest.mark.parametrize("wake", [Stream.end, lambda stream: stream.signal(UP)])
def test_a_waiting_stream_is_roused(wake: Callable[[Stream], None]) -> None:
    async def scene() -> bytes:
        stream = Stream(ANNA)
        asyncio.get_running_loop().call_soon(wake, stream)
        return await soon(stream.next())

    assert asyncio.run(scene()) in (b"", UP)


@pytest.fixture
def server_told() -> Iterator[list[int]]:
    """Stand in for the server's own handler of SIGTERM; the signals it was told of."""
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    yield told
    signal.signal(signal.SIGTERM, before)


def test_streams_end_when_the_server_is_told_to_stop_and_so_does_one_that_comes_late(
    broker: Broker, server_told: list[int]
) -> None:
    async def scene() -> list[bytes]:
        with hub().stream(ANNA) as stream:
            await soon(stream.next())
            os.kill(os.getpid(), signal.SIGTERM)
            last = await soon(stream.next())
            with hub().stream(ANNA) as late:
                return [last, await soon(late.next())]

    assert asyncio.run(scene()) == [b"", b""]
    assert server_told == [signal.SIGTERM]
