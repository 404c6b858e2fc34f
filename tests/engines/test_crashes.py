"""D11: a real worker process is killed at each step of sending a drain. Another goes on within 20 seconds."""

import subprocess
import uuid
from datetime import timedelta

import pytest

from engines import snapshots
from engines.bulk import Words, outcomes, plan, start
from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.operations.sweep import due
from portal import clock
from portal.audit.origin import Origin
from portal.vault.models import Connection
from tests.engines.conftest import dto, put, read
from tests.harness import wait_for
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


NUMBER = 40
ANSWERED, SENT, CLAIMED = 5, 8, 16  # of the handful in which the worker dies: 8 requests are under way at once


@pytest.fixture
def batch(acme, acme_connection, olga, olgas_key, api):
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"gpu-{n}") for n in range(NUMBER)}
    read(acme_connection, *api.engines.values())
    made = plan(Verb.DRAIN, Engine.objects.all(), team=acme, user=olga, role="operator")
    words, origin = Words("r", timedelta(hours=2)), Origin(request_id="req-7", role="operator")
    return start(made, words, batch_id=uuid.uuid4(), team=acme, user=olga, origin=origin, now=clock.now())


@pytest.fixture
def killed_midway(api, batch, held):
    """A worker was killed while some requests of a handful were answered, some under way, and some not sent yet."""
    due_first = [f"POST /engines/{each.its_engine.uid}/drain" for each in Operation.objects.order_by("pk")]
    before = CLAIMED - 1  # 1, 2, 4 and 8
    silent = due_first[before + ANSWERED : before + ANSWERED + SENT]
    api.trouble |= dict.fromkeys(silent, "silence")
    worker = subprocess.Popen(**worker_of(batch, held))
    try:
        wait_for(lambda: set(silent) <= set(api.requests), 30, "requests under way")
    finally:
        worker.kill()
        worker.wait(10)
    api.trouble.clear()
    assert outcomes(batch) == {"accepted": before, "sending": CLAIMED, "requested": NUMBER - before - CLAIMED}
    return silent


def test_d11_killed_in_the_middle_of_a_batch_another_goes_on_and_each_engine_is_drained_once(
    api, batch, killed_midway, held
):
    """What was not claimed goes on at once, what was is taken up within 20 seconds; a reading decides what is sent."""
    some = Operation.objects.filter(batch=batch).first()
    for _ in range(3):
        go_on(some, held)
    assert outcomes(batch) == {"working": NUMBER - CLAIMED, "sending": CLAIMED}
    for _ in range(17):
        go_on(some, held)
    assert "sending" not in outcomes(batch)
    for _ in range(10):
        go_on(some, held)
    assert outcomes(batch) == {"working": NUMBER}
    drains = [request for request in api.requests if request.endswith("/drain")]
    assert sorted(drains) == sorted([*set(drains), *killed_midway])
    assert all(read_between(api.requests, drain) for drain in killed_midway)


def read_between(requests, drain):
    """Say whether the engine was read between the two requests."""
    first, second = [place for place, request in enumerate(requests) if request == drain]
    return drain.replace("POST", "GET").removesuffix("/drain") in requests[first:second]
