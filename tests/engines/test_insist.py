"""A drain that the engine forgot, asked for with "insist": sent again by itself, once for each time, not for ever."""

import re
from datetime import timedelta

import pytest

from engines.enums import State
from engines.models import Batch, Operation
from engines.operations.alarms import alarming
from engines.operations.decide import send_again
from engines.operations.moves import Decider
from engines.operations.settle import settle
from portal import clock
from portal.accounts.models import Membership
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.models import StoredKey
from tests.engines.conftest import NOW, dto, put, read, state_of, sweep

pytestmark = pytest.mark.django_db
DRAIN = "POST /engines/eng_1/drain"
URL = "/engines/eng_1/drain/"
LABEL = "Send it again by itself if the engine forgets it"
FORGOT = "The engine runs and takes tasks again"
LATER = NOW + timedelta(seconds=30)


@pytest.fixture
def operation(api, operation):
    Operation.objects.update(parameters={"insist": True})
    operation.refresh_from_db()
    return operation


@pytest.fixture
def olgas(olga, olgas_key, client_of):
    return client_of(olga)


def posts(api):
    return [request for request in api.requests if request == DRAIN]


def forget(api, held):
    """Have the engine seen draining, and then running again; swept until nothing more is due."""
    api.engines["eng_1"] = dto(status="draining", busy=["task_1"])
    sweep(held, seconds=5)
    api.engines["eng_1"] = dto(status="running", busy=["task_1"])
    for _ in range(3):
        sweep(held, seconds=5)


def texts(operation):
    return [moment.text for moment in operation.moments.all()]


def test_d4_whoever_insisted_has_it_sent_again_once_for_each_time_that_it_was_forgotten(api, operation, held, acme):
    sweep(held, seconds=1)
    for times in (2, 3):
        forget(api, held)
        assert posts(api) == [DRAIN] * times
        assert (state_of(operation), operation.attempts) == (State.WORKING, times)
        assert not alarming(acme, clock.now()).exists()
    api.engines["eng_1"] = dto(status="stopped")
    sweep(held, seconds=5)
    assert state_of(operation) == State.SUCCEEDED


def test_d4_the_engine_is_read_before_it_is_sent_again(api, operation, held):
    sweep(held, seconds=1)
    forgot(operation)
    api.engines["eng_1"] = dto(status="draining")
    sweep(held, seconds=30)
    assert posts(api) == [DRAIN]
    assert state_of(operation) == State.WORKING


@pytest.mark.parametrize("more", [{}, {"patience_hours": 1, "deadline_hours": 2}])
def test_d4_offline_again_when_it_is_sent_again_it_is_waited_for(api, operation, held, more):
    Operation.objects.update(parameters={"insist": True, **more})
    sweep(held, seconds=1)
    api.trouble[DRAIN] = (409, "engine_offline")
    forget(api, held)
    assert state_of(operation) == State.UNKNOWN
    del api.trouble[DRAIN]
    api.engines["eng_1"] = dto(status="disconnected")
    sweep(held, hours=1, minutes=50)
    assert state_of(operation) == State.LOST_CONTACT
    forget(api, held)
    assert posts(api) == [DRAIN] * 3
    assert state_of(operation) == State.WORKING


def test_d4_offline_every_time_a_person_is_asked(api, operation, held, acme):
    sweep(held, seconds=1)
    api.trouble[DRAIN] = (409, "engine_offline")
    forget(api, held)
    for _ in range(9):
        sweep(held, seconds=25)
    assert state_of(operation) == State.NEEDS_ATTENTION
    assert posts(api) == [DRAIN] * 5
    assert alarming(acme, clock.now()).exists()


def forgot(operation, at=LATER, **facts):
    """Have a reading of then say that the engine runs, of an operation that was under way."""
    put(operation, "working", **facts)
    read(operation.engine.connection, dto(engine_version="v2"), at=at)
    return state_of(operation)


def test_it_is_said_on_the_timeline_and_in_the_audit_log(operation):
    assert forgot(operation) == State.REQUESTED
    assert texts(operation)[-1] == "It is sent again by itself, as Olga wanted."
    assert FORGOT in texts(operation)[-2]
    entry = Entry.objects.get(action="operation.needs_attention")
    assert (entry.actor, entry.detail["asked_by"]) == (None, "Olga")
    assert "It is sent again by itself, as Olga wanted." in entry.detail["note"]


def test_it_has_time_anew_as_after_a_click(operation):
    forgot(operation, deadline_at=LATER + timedelta(minutes=5))
    assert operation.deadline_at == clock.now() + timedelta(hours=2)


def test_it_is_not_sent_again_for_ever(operation):
    assert forgot(operation, attempts=5) == State.NEEDS_ATTENTION
    assert "Send the drain again" in operation.note


def test_without_it_a_person_is_asked(operation):
    Operation.objects.update(parameters={})
    assert forgot(operation) == State.NEEDS_ATTENTION


def test_one_that_was_left_in_need_of_attention_is_sent_again_too(operation):
    put(operation, "needs_attention")
    read(operation.engine.connection, dto(engine_version="v2"), at=LATER)
    assert state_of(operation) == State.REQUESTED


@pytest.mark.parametrize("status", ["deleted", "disconnected", "hibernating"])
def test_only_an_engine_that_runs_has_forgotten(operation, status):
    put(operation, "working")
    read(operation.engine.connection, dto(status=status), at=LATER)
    assert state_of(operation) != State.REQUESTED


def test_of_a_click_and_this_one_sends_it(api, operation, olga, held):
    put(operation, "needs_attention")
    behind = Operation.objects.select_related("team", "engine").get()
    send_again(operation, by=Decider(olga, Origin()), now=LATER)
    settle(behind, behind.engine, read_at=LATER, now=LATER)
    assert "had it sent again" in texts(operation)[-1]
    sweep(held, seconds=30)
    assert len(posts(api)) == 1


@pytest.mark.parametrize("lost", ["role", "team", "key"])
def test_it_is_never_sent_for_who_lost_the_right(api, operation, held, olga, lost):
    sweep(held, seconds=1)
    match lost:
        case "role":
            Membership.objects.filter(user=olga).update(role="viewer")
        case "team":
            Membership.objects.filter(user=olga).delete()
        case "key":
            StoredKey.objects.all().delete()
    assert forgot(operation) == State.REQUESTED
    sweep(held, seconds=30)
    assert posts(api) == [DRAIN]
    assert state_of(operation) == State.CANCELLED


def ask(browser, url, **words):
    ticket = re.search(r'name="ticket" value="([^"]+)"', browser.get(url).content.decode())[1]
    return browser.post(url, {"reason": "patch", "deadline": "2", "ticket": ticket, **words})


@pytest.mark.parametrize(("ticked", "kept"), [({"insist": "on"}, {"insist": True}), ({}, {})])
def test_the_dialog_offers_it_and_the_operation_keeps_and_shows_it(olgas, engine, ticked, kept):
    assert LABEL in olgas.get(URL).content.decode()
    page = ask(olgas, URL, **ticked)["Location"]
    assert Operation.objects.get().parameters == kept
    assert ("sent again by itself" in olgas.get(page).content.decode()) == bool(kept)


def test_a_drain_that_waits_for_its_engine_may_insist_too(olgas, engine):
    read(engine.connection, dto(status="disconnected"), at=LATER)
    ask(olgas, URL, insist="on")
    assert Operation.objects.get().parameters == {"insist": True, "patience_hours": 168, "deadline_hours": 2}


def test_tried_again_it_is_ticked_as_before(olgas, operation):
    put(operation, "failed", finished_at=NOW, next_at=None)
    page = olgas.get(f"{URL}?retry_of={operation.pk}").content.decode()
    assert "checked" in re.search(r'<input[^>]*name="insist"[^>]*>', page)[0]


def test_no_other_verb_offers_it(olgas, engine):
    assert LABEL not in olgas.get("/engines/eng_1/update/").content.decode()
    assert LABEL not in olgas.get("/engines/many/update/?uid=eng_1").content.decode()


def test_many_drains_keep_it_each_and_are_tried_again_with_it(olgas, engine):
    many = "/engines/many/drain/?uid=eng_1"
    assert LABEL in olgas.get(many).content.decode()
    ask(olgas, many, insist="on", despite="on")
    operation = Operation.objects.get()
    assert operation.parameters == {"insist": True}
    put(operation, "failed", finished_at=NOW, next_at=None)
    page = olgas.get(f"/engines/many/drain/?retry={Batch.objects.get().pk}").content.decode()
    assert "checked" in re.search(r'<input[^>]*name="insist"[^>]*>', page)[0]
