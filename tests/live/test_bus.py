"""publish(): after the commit, merged, and harmless whatever the broker does."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.db import transaction
from pytest_django import Settings

from portal.live.bus import publish
from portal.wake import breaker
from tests.live.broker import Broker, absent, silent

pytestmark = pytest.mark.django_db(transaction=True)

Heard = Callable[[], list[tuple[str, list[str]]]]


@pytest.fixture
def heard(broker: Broker) -> Iterator[Heard]:
    """Return what was published so far, as (channel, topics)."""
    with redis.Redis.from_url(broker.url, decode_responses=True) as client, client.pubsub() as pubsub:
        pubsub.psubscribe("live:*")
        assert pubsub.get_message(timeout=1)

        def read() -> list[tuple[str, list[str]]]:
            messages: list[dict[str, Any]] = iter(lambda: pubsub.get_message(timeout=0.05), None)  # type: ignore[assignment]
            return [(message["channel"], json.loads(message["data"])["topics"]) for message in messages]

        yield read


def publish_and_fail() -> None:
    with transaction.atomic():
        publish(1, "engines")
        raise ZeroDivisionError


def test_outside_a_transaction_it_is_sent_at_once(heard: Heard) -> None:
    publish(7, "engines", "engine:eng_1")
    assert heard() == [("live:7", ["engine:eng_1", "engines"])]


def test_nothing_is_sent_before_the_commit(heard: Heard) -> None:
    with transaction.atomic():
        publish(1, "engines")
        assert heard() == []
    assert heard() == [("live:1", ["engines"])]


def test_what_is_rolled_back_is_never_sent(heard: Heard) -> None:
    with pytest.raises(ZeroDivisionError):
        publish_and_fail()
    publish(1, "audit")
    assert heard() == [("live:1", ["audit"])]


def test_a_transaction_sends_one_message_a_team(heard: Heard) -> None:
    with transaction.atomic():
        publish(1, "engines")
        publish(2, "audit")
        with transaction.atomic():
            publish(1, "operations", "engines")
    assert sorted(heard()) == [("live:1", ["engines", "operations"]), ("live:2", ["audit"])]


def test_a_rolled_back_savepoint_takes_only_its_own_topics_along(heard: Heard) -> None:
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError):
            publish_and_fail()
        publish(1, "operations")
    assert heard() == [("live:1", ["operations"])]


@pytest.mark.parametrize("url", [absent(), "unix:///nowhere/broker.sock"], ids=["closed port", "no socket"])
def test_an_absent_broker_harms_nobody(url: str, settings: Settings) -> None:
    settings.REDIS_URL = url
    begun = time.monotonic()
    publish(1, "engines")
    assert time.monotonic() - begun < 0.5
    assert not breaker.allows()


def test_a_silent_broker_costs_less_than_a_second_once(settings: Settings) -> None:
    with silent() as settings.REDIS_URL:
        begun = time.monotonic()
        publish(1, "engines")
        first = time.monotonic()
        publish(1, "engines")
    assert first - begun < 1
    assert time.monotonic() - first < 0.05


def test_a_frozen_broker_costs_less_than_a_second(broker: Broker) -> None:
    publish(1, "engines")
    with broker.frozen():
        begun = time.monotonic()
        publish(1, "engines")
        assert time.monotonic() - begun < 1


def test_with_the_breaker_open_nothing_is_tried(heard: Heard) -> None:
    breaker.trip()
    publish(1, "engines")
    assert heard() == []


def test_a_broker_that_was_restarted_is_used_again(broker: Broker) -> None:
    publish(1, "engines")
    broker.stop()
    broker.start()
    publish(1, "engines")
    assert breaker.allows()


def test_a_process_publishes_over_one_connection(broker: Broker) -> None:
    before = broker.connections()
    for _ in range(5):
        publish(1, "engines")
    assert broker.connections() <= max(before, 1)
