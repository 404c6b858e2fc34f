"""Sending: claimed by one worker, called once, and recorded for what the answer proves."""

from datetime import timedelta

import pytest

from engines.access import client_for
from engines.api.client import EnginesClient
from engines.enums import State
from engines.models import Operation
from engines.operations.send import send
from engines.operations.sweep import due, recover
from portal.accounts.models import Membership, User
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import NOW, dto, put, read

pytestmark = pytest.mark.django_db
DRAIN = "POST /engines/eng_1/drain"


@pytest.fixture
def operation(api, operation):
    """The operation, with its key sealed for the address of `api`."""
    return operation


def sent(operation, at=NOW):
    send(str(operation.pk), at)
    operation.refresh_from_db()
    return operation.state


def test_an_accepted_drain_waits_for_a_reading(api, operation):
    assert sent(operation) == State.ACCEPTED
    assert api.sent("POST", "/engines/eng_1/drain") == [DRAIN]


def test_a_worker_that_was_held_up_sends_nothing(api, operation, monkeypatch):
    clock = iter([0.0, 11.0])
    monkeypatch.setattr("portal.clock.boot", lambda: next(clock))
    assert sent(operation) == State.REQUESTED
    assert api.requests == []


def test_a_worker_that_was_overtaken_records_nothing(api, operation, monkeypatch):
    def overtaken():
        put(operation, "sending", fence=7)
        return 0.0

    clock = iter([lambda: 0.0, overtaken])
    monkeypatch.setattr("portal.clock.boot", lambda: next(clock)())
    assert sent(operation) == State.SENDING
    assert operation.fence == 7


def test_a_message_delivered_five_times_sends_once(api, operation):
    for _ in range(5):
        sent(operation)
    assert len(api.sent("POST", "/engines/eng_1/drain")) == 1


def test_d2_an_offline_engine_is_refused_in_plain_words(api, operation):
    api.trouble[DRAIN] = (409, "engine_offline")
    assert sent(operation) == State.REFUSED
    assert operation.answer["code"] == "engine_offline"
    assert operation.finished_at


def test_an_engine_that_is_not_back_yet_after_an_outage_is_given_time(api, operation):
    put(operation, "requested", attempts=1, sent_at=NOW - timedelta(minutes=1))
    api.trouble[DRAIN] = (409, "engine_offline")
    assert sent(operation) == State.REQUESTED


def test_an_engine_that_stays_offline_after_an_outage_is_refused(api, operation):
    put(operation, "requested", attempts=4, sent_at=NOW - timedelta(minutes=1))
    api.trouble[DRAIN] = (409, "engine_offline")
    assert sent(operation) == State.REFUSED


@pytest.mark.parametrize("trouble", [(500, "internal_error"), (502, ""), "reset", "reset after"])
def test_no_answer_proves_nothing(api, operation, trouble):
    api.trouble[DRAIN] = trouble
    assert sent(operation) == State.UNKNOWN


def test_a_closed_port_is_provably_not_sent_and_tried_again(api, operation):
    Connection.objects.update(base_url=api.url)
    api.close()
    assert sent(operation) == State.REQUESTED
    assert operation.next_at > NOW


def test_rate_limits_are_obeyed(api, operation):
    api.trouble[DRAIN] = (429, "rate_limited")
    assert sent(operation) == State.REQUESTED


def test_a_repeat_reads_first_and_does_not_send_what_is_under_way(api, operation):
    put(operation, "requested", attempts=1)
    api.engines["eng_1"]["status"] = "draining"
    assert sent(operation) == State.WORKING
    assert api.sent("POST", "/engines/eng_1/drain") == []


def test_a_repeat_sends_when_the_reading_shows_no_drain(api, operation):
    put(operation, "requested", attempts=1, sent_at=NOW - timedelta(minutes=1))
    assert sent(operation) == State.ACCEPTED
    assert api.requests[:2] == ["GET /engines/eng_1", DRAIN]


def test_a_refused_key_is_flagged(api, operation):
    api.trouble[DRAIN] = (401, "unauthorized")
    assert sent(operation) == State.REFUSED
    assert "401" in StoredKey.objects.get().last_error


def test_a_right_lost_meanwhile_stops_it_before_it_is_sent(api, operation, olga):
    Membership.objects.filter(user=olga).update(role="viewer")
    assert sent(operation) == State.CANCELLED
    assert api.requests == []


def test_a_key_removed_meanwhile_stops_it_before_it_is_sent(api, operation):
    StoredKey.objects.all().delete()
    assert sent(operation) == State.CANCELLED


def test_a_dead_workers_send_becomes_unknown_when_its_lease_runs_out(operation):
    put(operation, "sending", lease_until=NOW, next_at=NOW)
    recover(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.UNKNOWN


def test_a_living_workers_send_is_left_alone(operation):
    put(operation, "sending", lease_until=NOW + timedelta(seconds=1))
    recover(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.SENDING


def test_the_sweep_sends_what_no_message_woke(api, operation):
    Connection.objects.update(refresh_due_at=NOW + timedelta(hours=1))
    for job in due(NOW):
        job()
    assert Operation.objects.get().state == State.ACCEPTED


def test_the_sweep_brings_a_drain_to_its_end_without_any_message(api, operation):
    sent(operation)
    api.engines["eng_1"]["status"] = "stopped"
    Operation.objects.update(sent_at=NOW - timedelta(hours=1))
    Connection.objects.update(refresh_due_at=None)
    for job in due(NOW):
        job()
    assert Operation.objects.get().state == State.SUCCEEDED


def test_the_lease_begins_with_the_claim_however_long_ago_the_work_was_found(api, operation, monkeypatch):
    seen = []
    monkeypatch.setattr("portal.clock.now", lambda: NOW + timedelta(minutes=5))
    monkeypatch.setattr("engines.operations.send.client_for", lambda *_, **__: seen.append(leases()) or client_for(*_))
    sent(operation, NOW)
    assert seen == [NOW + timedelta(minutes=5, seconds=20)]


def test_a_reading_before_the_send_is_progress_and_renews_the_lease(api, operation, held, monkeypatch):
    get = EnginesClient.get

    def slow(client, uid):
        held.advance(seconds=15)
        return get(client, uid)

    monkeypatch.setattr(EnginesClient, "get", slow)
    ends = []
    monkeypatch.setattr(EnginesClient, "drain", lambda *_: ends.append(leases()))
    put(operation, "requested", attempts=1, sent_at=NOW - timedelta(minutes=1))
    assert sent(operation) == State.ACCEPTED
    assert ends == [NOW + timedelta(seconds=35)]


def leases():
    return Operation.objects.get().lease_until


def test_a_reading_begun_during_the_call_proves_nothing(api, operation, monkeypatch):
    clock = iter([NOW, NOW + timedelta(seconds=30)])  # the claim, the answer
    monkeypatch.setattr("portal.clock.now", lambda: next(clock, NOW + timedelta(seconds=30)))
    sent(operation)
    read(operation.engine.connection, dto(busy=["task_1"]), at=NOW + timedelta(seconds=10))
    operation.refresh_from_db()
    assert operation.state == State.ACCEPTED


def test_a_person_who_was_switched_off_meanwhile_has_nothing_sent(api, operation, olga):
    User.objects.filter(pk=olga.pk).update(is_active=False)
    assert sent(operation) == State.CANCELLED
    assert api.requests == []


def test_a_refusal_of_the_old_key_does_not_flag_the_one_that_replaced_it(api, operation, olga, monkeypatch):
    def replaced(key, **more):
        client = client_for(key, **more)
        store(user=olga, connection=key.connection, secret=Secret("inf_new_key"), label="new", scopes=["*"])
        return client

    monkeypatch.setattr("engines.operations.send.client_for", replaced)
    api.trouble[DRAIN] = (401, "unauthorized")
    assert sent(operation) == State.REFUSED
    assert StoredKey.objects.get().last_error == ""


def test_nothing_slow_stands_between_the_last_look_at_the_clock_and_the_request(api, operation, monkeypatch):
    clock = iter([0.0, 9.0])
    used = []
    monkeypatch.setattr("portal.clock.boot", lambda: used.append(last_used()) or next(clock))
    sent(operation)
    assert used[0] is None
    assert used[1] is not None


def last_used():
    return StoredKey.objects.get().last_used_at
