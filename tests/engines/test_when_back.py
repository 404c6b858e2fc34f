"""Drain when it comes back: what is asked of an engine that is offline waits for it, visibly, and not for ever."""

import re
from datetime import timedelta

import pytest

from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.operations.request import Busy, request
from engines.operations.send import send
from engines.operations.sweep import due
from portal import clock
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from tests.engines.conftest import NOW, WHY, dto, put, read, wish

pytestmark = pytest.mark.django_db
WEEK = {"patience_hours": 168, "deadline_hours": 2}
ORIGIN = Origin(request_id="req-1", address="10.0.0.9", role="operator")
DRAIN = "/engines/eng_1/drain/"
LATER = NOW + timedelta(minutes=3)


@pytest.fixture
def offline(acme_connection, api):
    api.engines["eng_1"] = dto(status="disconnected")
    read(acme_connection, dto(status="disconnected"))
    return Engine.objects.get()


@pytest.fixture
def waiting(offline, olga, olgas_key):
    return request(wish(parameters=WEEK), engine=offline, user=olga, key=olgas_key, origin=ORIGIN, now=NOW)


@pytest.fixture
def olgas(olga, olgas_key, client_of):
    return client_of(olga)


def fresh(operation):
    operation.refresh_from_db()
    return operation


def seen(operation, status, at=LATER, **more):
    read(operation.engine.connection, dto(status=status, **more), at=at)
    return fresh(operation)


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def form(page, **more):
    ticket = re.search(r'name="ticket" value="([^"]+)"', page.content.decode())[1]
    return {"reason": "patch", "deadline": "6", "ticket": ticket, **more}


def test_the_dialog_of_an_offline_engine_offers_to_wait(olgas, offline):
    shown = words(olgas.get(DRAIN))
    assert "nothing is sent now" in shown
    assert "Wait for it for up to" in shown
    assert "Drain when back: gpu-1" in shown


@pytest.mark.parametrize(("patience", "hours"), [({}, 168), ({"patience": "24"}, 24)])
def test_it_is_asked_with_how_long_it_waits(olgas, offline, patience, hours):
    assert olgas.post(DRAIN, form(olgas.get(DRAIN), **patience)).status_code == 302
    operation = Operation.objects.get()
    assert operation.state == State.WAITING
    assert operation.next_at - operation.requested_at == timedelta(hours=hours)
    assert operation.parameters == {"patience_hours": hours, "deadline_hours": 6}


def test_asked_twice_with_one_form_it_is_one_operation(olgas, offline):
    sent = form(olgas.get(DRAIN))
    assert olgas.post(DRAIN, sent)["Location"] == olgas.post(DRAIN, sent)["Location"]
    assert Operation.objects.count() == 1


def test_nothing_is_sent_while_it_waits(waiting, api):
    for job in due(NOW + timedelta(days=6)):
        job()
    send(str(waiting.pk), LATER)
    assert fresh(waiting).state == State.WAITING
    assert api.sent("POST", "/engines/eng_1/drain") == []


def test_seen_again_it_is_sent_at_once_with_its_deadline_from_then(waiting, api, monkeypatch):
    monkeypatch.setattr("portal.clock.now", lambda: LATER)
    assert seen(waiting, "running").state == State.REQUESTED
    assert (waiting.next_at, waiting.deadline_at) == (LATER, LATER + timedelta(hours=2))
    api.engines["eng_1"] = dto(status="running")
    send(str(waiting.pk), LATER)
    assert fresh(waiting).state == State.ACCEPTED
    assert len(api.sent("POST", "/engines/eng_1/drain")) == 1


def test_a_worker_is_woken_for_it_and_does_not_wait_for_the_next_sweep(
    waiting, monkeypatch, django_capture_on_commit_callbacks
):
    woken = []
    monkeypatch.setattr("portal.wake._send", lambda task, arguments: woken.append(arguments))
    with django_capture_on_commit_callbacks(execute=True):
        seen(waiting, "running")
    assert woken == [(str(waiting.pk),)]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("disconnected", "waiting"),
        ("pending", "waiting"),
        ("restarting", "waiting"),
        ("draining", "requested"),
        ("stopped", "cancelled"),
        ("deleted", "cancelled"),
    ],
)
def test_what_each_reading_means_for_it(waiting, status, state):
    assert seen(waiting, status).state == state


def test_offline_again_before_it_was_sent_it_waits_on_until_its_end(waiting, api):
    end = waiting.next_at
    seen(waiting, "running")
    api.engines["eng_1"] = dto(status="running")
    api.trouble["POST /engines/eng_1/drain"] = (409, "engine_offline")
    send(str(waiting.pk), clock.now() + timedelta(minutes=5))
    assert fresh(waiting).state == State.WAITING
    assert waiting.next_at == end


def test_it_ends_by_itself_when_the_time_is_over(waiting, api):
    for job in due(NOW + timedelta(days=7, seconds=1)):
        job()
    assert fresh(waiting).state == State.CANCELLED
    assert "did not come back in time" in waiting.note
    assert api.sent("POST", "/engines/eng_1/drain") == []


def test_it_can_be_cancelled_by_name(waiting, olgas, olga):
    assert "Cancel" in words(olgas.get(f"/operations/{waiting.pk}/"))
    olgas.post(f"/operations/{waiting.pk}/cancel/", WHY)
    assert fresh(waiting).state == State.CANCELLED
    assert Entry.objects.filter(action="operation.cancelled", actor=olga).count() == 1


def test_it_is_seen_on_the_engine_and_among_what_is_under_way(waiting, olgas):
    for page in ("/engines/", "/engines/eng_1/", "/operations/?state=open"):
        assert "kernel patch" in words(olgas.get(page))
    assert "Waits until" in words(olgas.get(f"/operations/{waiting.pk}/"))


def test_who_may_no_longer_drain_has_it_ended_when_the_engine_is_back(waiting, olga, api, acme):
    olga.memberships.filter(team=acme).update(role="viewer")
    seen(waiting, "running")
    send(str(waiting.pk), clock.now() + timedelta(minutes=5))
    assert fresh(waiting).state == State.CANCELLED
    assert api.sent("POST", "/engines/eng_1/drain") == []


def test_the_fleet_offers_it_for_an_offline_engine(olgas, offline):
    assert "Drain gpu-1 when it is back" in words(olgas.get("/engines/"))


def test_a_stop_takes_its_place(waiting, client_of, ada, acme_connection):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    browser = client_of(ada)
    assert browser.post("/engines/eng_1/stop/", form(browser.get("/engines/eng_1/stop/"))).status_code == 302
    assert fresh(waiting).state == State.SUPERSEDED


# What may be open beside each other (RELIABILITY 4.1)


@pytest.mark.parametrize(
    ("open_one", "asked", "fits"),
    [
        ("drain", "extend", True),
        ("update", "extend", True),
        ("extend", "drain", True),
        ("stop", "extend", False),
        ("restart", "extend", False),
        ("extend", "stop", False),
        ("extend", "extend", False),
        ("drain", "update", False),
    ],
)
def test_what_is_open_beside_what(engine, olga, olgas_key, open_one, asked, fits):
    about = {"engine": engine, "user": olga, "key": olgas_key, "origin": ORIGIN, "now": NOW}
    first = put(request(wish(verb=Verb(open_one)), **about), "working" if open_one != "extend" else "unknown")
    if fits:
        assert request(wish(verb=Verb(asked)), **about).state == State.REQUESTED
    else:
        with pytest.raises(Busy):
            request(wish(verb=Verb(asked)), **about)
    assert fresh(first).state in (State.WORKING, State.UNKNOWN)


def test_a_stop_does_not_end_a_drain_while_time_is_being_bought(engine, olga, olgas_key):
    about = {"engine": engine, "user": olga, "key": olgas_key, "origin": ORIGIN, "now": NOW}
    drain = put(request(wish(), **about), "working")
    put(request(wish(verb=Verb.EXTEND), **about), "unknown")
    with pytest.raises(Busy):
        request(wish(verb=Verb.STOP), **about)
    assert fresh(drain).state == State.WORKING
