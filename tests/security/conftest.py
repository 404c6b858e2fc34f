"""The cast of tests/engines, one engine with an operation of Olga's; and two teams with a row of every kind each."""

import pytest

from tests.clock import Clock
from tests.engines.conftest import api, engine, olgas_key, operation  # noqa: F401  # fixtures
from tests.security.world import World


@pytest.fixture
def world(db, monkeypatch):
    """Acme, whole."""
    Clock.hold(monkeypatch)
    return World("acme", "Said by Acme")


@pytest.fixture
def foreign(world):
    """Another team, whole, beside Acme."""
    return World("mallory", "Said by Mallory")
