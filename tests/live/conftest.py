from collections.abc import Iterator

import pytest
from pytest_django import Settings

from portal.wake import breaker
from tests.live.broker import Broker, running


@pytest.fixture(scope="package")
def shared_broker() -> Iterator[Broker]:
    with running() as broker:
        yield broker


@pytest.fixture
def broker(shared_broker: Broker, settings: Settings) -> Broker:
    """A broker that works, and that the portal uses."""
    settings.REDIS_URL = shared_broker.url
    return shared_broker


@pytest.fixture(autouse=True)
def _closed_breaker() -> Iterator[None]:
    breaker.reset()
    yield
    breaker.reset()
