from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.controlplane.providers.base import Launch, Order
from engines.controlplane.providers.shadeform import Shadeform
from tests.providers.local_world import World
from tests.providers.shadeform_server import KEY, ShadeformStandIn

ENGINE_KEY = "inf_the-engine's-own\"key$`\\%"


@pytest.fixture
def server() -> Iterator[ShadeformStandIn]:
    with ShadeformStandIn().running() as standin:
        yield standin


@pytest.fixture
def shadeform(server: ShadeformStandIn) -> Shadeform:
    return Shadeform(KEY, server.url, timeout=5)


@pytest.fixture
def order() -> Order:
    launch = Launch("eng_1", "gpu box", "https://api.example.com", ENGINE_KEY)
    return Order("engine-eng_1", "hyperstack", "canada-1", "A6000", launch)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "cloud")
    yield made
    made.clean()
