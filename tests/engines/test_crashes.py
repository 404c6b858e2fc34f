"""D11: a real worker process is killed at each step of sending a drain. Another goes on within 20 seconds."""

import subprocess

import pytest

from engines import snapshots
from engines.enums import State
from engines.operations.sweep import due
from portal import clock
from portal.vault.models import Connection
from tests.engines.conftest import dto, put
from tests.money.test_crashes import worker_of

pytestmark = pytest.mark.django_db(transaction=True)
DRAIN, READ = "POST /engines/eng_1/drain", "GET /engines/eng_1"


@pytest.fixture
def killed_at(api, operation, held):
    """Have a worker process send the operation and die at a place; return the operation as it was left."""

    def kill(place):
        ended = subprocess.run(**worker_of(operation, held, place), timeout=30, check=False)
        assert ended.returncode == 137
        operation.refresh_from_db()
        return operation

    return kill


def go_on(operation, held, seconds=1):
    """Another worker sweeps, a second later or more."""
    held.advance(seconds=seconds)
    for job in list(due(clock.now())):
        job()
    operation.refresh_from_db()
    return operation.state


def until(operation, held, state, most):
    """Sweep every second until the operation is in that state."""
    for _ in range(most):
        if go_on(operation, held) == state:
            return
    pytest.fail(f"{operation.state} after {most} s, not {state}")


def test_d11_killed_before_the_request_it_is_sent_once_after_a_reading_without_a_drain(api, killed_at, held):
    operation = killed_at("drain.claimed")
    assert (operation.state, api.sent(*DRAIN.split())) == (State.SENDING, [])
    until(operation, held, State.UNKNOWN, 20)
    until(operation, held, State.WORKING, 10)
    sent = [request for request in api.requests if request in (DRAIN, READ)]
    assert sent.count(DRAIN) == 1
    assert READ in sent[: sent.index(DRAIN)]


def test_d11_killed_after_the_request_a_reading_shows_the_drain_and_it_is_not_sent_again(api, killed_at, held):
    operation = killed_at("drain.called")
    assert (operation.state, api.sent(*DRAIN.split())) == (State.SENDING, [DRAIN])
    until(operation, held, State.WORKING, 22)
    api.engines["eng_1"] = dto(status="stopped")
    until(operation, held, State.SUCCEEDED, 6)
    assert api.sent(*DRAIN.split()) == [DRAIN]


def test_d11_killed_after_a_request_without_effect_it_is_sent_a_second_time_after_a_reading(api, killed_at, held):
    operation = killed_at("drain.called")
    api.engines["eng_1"] = dto(status="running")
    until(operation, held, State.ACCEPTED, 30)
    first, second = [place for place, request in enumerate(api.requests) if request == DRAIN]
    assert READ in api.requests[first:second]


def test_d11_killed_after_it_was_recorded_it_is_watched(api, killed_at, held):
    operation = killed_at("drain.recorded")
    assert operation.state == State.ACCEPTED
    until(operation, held, State.WORKING, 3)
    assert api.sent(*DRAIN.split()) == [DRAIN]


def test_d11_killed_while_watching_another_watches_on(api, operation, held):
    put(operation, "accepted")
    held.advance(seconds=1)
    connection = operation.connection
    Connection.objects.update(refresh_due_at=None)
    assert snapshots._claim(connection.pk, clock.now(), clock.now())  # and no more is heard of that worker
    api.engines["eng_1"] = dto(status="draining")
    assert go_on(operation, held, 5) == State.ACCEPTED
    until(operation, held, State.WORKING, 15)
