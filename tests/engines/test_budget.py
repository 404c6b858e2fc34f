"""D14: reading one connection keeps within a budget of requests; what people ask, and purchases, come on top."""

from datetime import timedelta

import pytest

from engines.enums import State
from engines.models import Engine, Operation
from engines.operations.request import request
from engines.operations.sweep import due
from engines.snapshots import look_soon
from portal import clock
from portal.audit.origin import Origin
from portal.vault.models import Connection
from tests.engines.conftest import NOW, dto, put, read, wish

pytestmark = pytest.mark.django_db
MANY = 100
DRAIN = "POST /engines/eng_1/drain"


@pytest.fixture
def tracked(api, acme_connection, olga, olgas_key, settings):
    """Many drains under way, listed on ten pages, and a budget of two requests a second."""
    settings.API_POLLS_PER_SECOND = 2.0
    api.page = MANY // 10
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"e-{n}", status="draining") for n in range(MANY)}
    read(acme_connection, *api.engines.values())
    Operation.objects.bulk_create(
        Operation(
            team=engine.team,
            engine=engine,
            engine_name=engine.name,
            verb="drain",
            state=State.WORKING,
            requested_by=olga,
            key=olgas_key,
            requested_at=NOW,
            deadline_at=NOW + timedelta(hours=2),
            moved_at=NOW,
            sent_at=NOW - timedelta(minutes=1),
        )
        for engine in Engine.objects.all()
    )
    return acme_connection


def minutes_of_sweeps(held, connection, minutes):
    """Sweep every second, while something is always about to change."""
    for _ in range(minutes * 60):
        held.advance(seconds=1)
        look_soon(connection, clock.now())
        for job in due(clock.now()):
            job()


def test_d14_watching_many_drains_keeps_within_the_budget(tracked, api, held):
    minutes_of_sweeps(held, tracked, 1)
    asked = len(api.requests)
    assert 60 <= asked <= 2 * 60 + 10


@pytest.mark.parametrize("trouble", [(429, "rate_limited"), (503, "app_maintenance")])
def test_d14_an_api_that_is_overloaded_is_asked_ever_less(tracked, api, held, trouble):
    api.trouble["POST /engines/list"] = trouble
    minutes_of_sweeps(held, tracked, 2)
    assert len(api.requests) <= 3 * 10  # each with its two retries


def test_d14_what_a_person_asks_does_not_wait_for_the_budget(tracked, api, held, olga, olgas_key):
    held.advance(seconds=10)
    for job in due(clock.now()):
        job()
    assert Connection.objects.get().refresh_lease_until > clock.now()  # no reading for a while
    api.engines["eng_1"] = dto(uid="eng_1")
    engine = Engine.objects.get(uid="eng_1")
    put(Operation.objects.get(engine=engine), "cancelled")
    asked = request(wish(), engine=engine, user=olga, key=olgas_key, origin=Origin(role="operator"), now=clock.now())
    for job in due(clock.now()):
        job()
    asked.refresh_from_db()
    assert (asked.state, api.sent("POST", "/engines/eng_1/drain")) == (State.ACCEPTED, [DRAIN])
