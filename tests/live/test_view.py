"""The stream as a browser gets it, through the whole portal."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import Client

from portal.accounts.models import Membership, Team, User
from portal.live import hub as hub_module
from portal.live.bus import publish
from tests.live.asgi import get
from tests.live.broker import Broker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def victors(client_of: Callable[[User], Client], victor: User) -> Client:
    return client_of(victor)


@pytest.fixture
def cookie(victors: Client) -> str:
    return cookie_of(victors)


def cookie_of(browser: Client) -> str:
    return "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())


async def aside(work: Callable[..., object], *arguments: object) -> None:
    """Do it in a thread, as a view or a worker would, and leave no connection behind there."""

    def do() -> None:
        try:
            work(*arguments)
        finally:
            connections.close_all()

    await sync_to_async(do)()


def test_it_brings_what_the_team_publishes(broker: Broker, acme: Team, cookie: str) -> None:
    async def scene() -> bytes:
        async with get("/live/", cookie) as answer:
            await answer.until(b"event: up")
            await aside(publish, acme.pk, "engines")
            return await answer.until(b"topics")

    assert b'data: {"topics": ["engines"]}\n\n' in asyncio.run(scene())


def test_it_may_not_be_kept_or_held_back_on_the_way(broker: Broker, cookie: str) -> None:
    async def scene() -> dict[str, str]:
        async with get("/live/", cookie) as answer:
            assert b"retry: 3000\n\n" in await answer.until(b"event: up")
            return answer.headers

    headers = asyncio.run(scene())
    assert headers["content-type"] == "text/event-stream"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


def test_a_stranger_gets_no_stream(broker: Broker) -> None:
    async def scene() -> int:
        async with get("/live/") as answer:
            await answer.until()
            return answer.status

    assert asyncio.run(scene()) in (302, 401, 403)


def test_nothing_can_be_posted(broker: Broker, victors: Client) -> None:
    assert victors.post("/live/").status_code in (403, 405)


def test_another_team_hears_nothing_of_it(
    broker: Broker, acme: Team, mallory: User, other_team: Team, client_of: Callable[[User], Client]
) -> None:
    cookie = cookie_of(client_of(mallory))

    async def scene() -> bytes:
        async with get("/live/", cookie) as answer:
            await answer.until(b"event: up")
            await aside(publish, acme.pk, "engine:secret")
            await aside(publish, other_team.pk, "engine:own")
            return await answer.until(b"topics")

    assert b"secret" not in asyncio.run(scene())


@pytest.mark.parametrize("change", [lambda client: client.logout(), lambda _: Membership.objects.all().delete()])
def test_it_ends_when_its_reader_is_signed_out_or_removed(
    broker: Broker, victors: Client, cookie: str, change: Callable[[Client], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "CHECK_SECONDS", 0.05)

    async def scene() -> bool:
        async with get("/live/", cookie) as answer:
            await answer.until(b"event: up")
            await asyncio.sleep(0.2)  # some checks go well
            assert not answer.ended
            await aside(change, victors)
            await answer.until()
            return answer.ended

    assert asyncio.run(scene())


def test_an_idle_stream_holds_no_thread(broker: Broker, cookie: str) -> None:
    async def scene() -> int:
        async with AsyncExitStack() as stack:
            before = threading.active_count()
            for _ in range(10):
                answer = await stack.enter_async_context(get("/live/", cookie))
                await answer.until(b"event: up")
            await asyncio.sleep(0.1)
            return threading.active_count() - before

    assert asyncio.run(scene()) <= 1


def test_a_browser_that_leaves_is_forgotten(broker: Broker, cookie: str) -> None:
    async def scene() -> int:
        async with get("/live/", cookie) as answer:
            await answer.until(b"event: up")
        return len(hub_module.hub()._all())

    assert asyncio.run(scene()) == 0
