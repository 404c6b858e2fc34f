"""Drains from the click to the end, swept as time passes: what is sent, what is shown, and what never happens."""

import itertools
import re
from datetime import timedelta
from html import unescape

import pytest

from engines.access import client_for
from engines.bulk import outcomes
from engines.enums import State
from engines.models import Batch, Engine, Operation
from engines.operations.alarms import alarming
from portal import clock
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import NOW, WHY, dto, put, read, state_of, sweep

pytestmark = pytest.mark.django_db
DRAIN = "POST /engines/eng_1/drain"
LIST = "POST /engines/list"


@pytest.fixture
def operation(api, operation):
    """The operation, with its key sealed for the address of `api`."""
    return operation


def posts(api):
    return [request for request in api.requests if request.startswith("POST") and request != LIST]


# D1


def test_d1_it_is_drained_only_after_both_tasks_have_ended_and_asked_once(api, operation, held):
    api.engines["eng_1"] = dto(busy=["task_1", "task_2"])
    sweep(held, seconds=1)
    for busy in (["task_1", "task_2"], ["task_2"], []):
        api.engines["eng_1"] = dto(status="draining", busy=busy)
        sweep(held, seconds=3)
        assert state_of(operation) == State.WORKING
        assert [task["task_id"] for task in operation.progress["waiting"]] == busy
    api.engines["eng_1"] = dto(status="stopped")
    sweep(held, seconds=3)
    assert state_of(operation) == State.SUCCEEDED
    assert posts(api) == [DRAIN]


# D3, D4, D5, D6


def test_d3_an_engine_that_is_back_after_three_minutes_drains_on(api, operation, held):
    sweep(held, seconds=1)
    api.engines["eng_1"] = dto(status="disconnected", busy=["task_1"])
    sweep(held, seconds=3)
    assert state_of(operation) == State.LOST_CONTACT
    assert "not given up" in operation.note
    api.engines["eng_1"] = dto(status="draining", busy=["task_1"])
    sweep(held, minutes=3)
    assert state_of(operation) == State.WORKING
    assert posts(api) == [DRAIN]


def test_d4_an_engine_that_forgot_the_drain_asks_a_person_and_one_click_sends_it_again(
    api, operation, held, client_of, olga
):
    sweep(held, seconds=1)
    sweep(held, seconds=3)
    api.engines["eng_1"] = dto(status="running")
    sweep(held, seconds=30)
    assert state_of(operation) == State.NEEDS_ATTENTION
    sweep(held, hours=1)
    assert posts(api) == [DRAIN]
    client_of(olga).post(f"/operations/{operation.pk}/send-again/", WHY)
    sweep(held, seconds=1)
    assert posts(api) == [DRAIN, DRAIN]


def a_day(held, api, operation):
    """Let a day pass, read as it goes; return the states that the operation was in."""
    seen = set()
    for _ in range(24):
        sweep(held, hours=1)
        seen.add(state_of(operation))
    return seen


def test_d5_an_engine_that_is_away_for_ever_never_counts_as_drained(api, operation, held, acme):
    sweep(held, seconds=1)
    sweep(held, seconds=3)
    api.engines["eng_1"] = dto(status="disconnected", busy=["task_1"])
    assert a_day(held, api, operation) == {State.LOST_CONTACT, State.STUCK}
    assert list(alarming(acme, clock.now())) == [operation]
    assert posts(api) == [DRAIN]


def test_d6_a_task_that_never_ends_is_shown_and_not_cut_in_a_day(api, operation, held, client_of, olga):
    api.engines["eng_1"] = dto(busy=["task_for_ever"])
    sweep(held, seconds=1)
    assert a_day(held, api, operation) == {State.WORKING, State.STUCK}
    page = client_of(olga).get(f"/operations/{operation.pk}/").content.decode()
    assert "task_for_ever" in page
    assert "Nothing is cut" in page
    assert posts(api) == [DRAIN]


# D12


def test_d12_the_hour_in_which_nobody_looked_is_on_the_timeline_and_no_time_is_invented(
    api, operation, held, client_of, olga
):
    sweep(held, seconds=1)
    sweep(held, seconds=20)
    assert state_of(operation) == State.WORKING
    api.engines["eng_1"] = dto(status="stopped")
    sweep(held, hours=1)
    *_, gap, end = operation.moments.all()
    assert (gap.text, gap.at) == ("Not observed 23 Nov 12:00–13:00 UTC.", clock.now())
    assert (end.state, end.at) == (State.SUCCEEDED, clock.now())
    assert (
        "Not observed 23 Nov 12:00–13:00 UTC." in client_of(olga).get(f"/operations/{operation.pk}/").content.decode()
    )


def test_d12_a_reading_that_fails_half_way_does_not_say_it_twice(api, operation, held):
    sweep(held, seconds=1)
    sweep(held, seconds=20)
    api.pages, api.expired = [[dto(status="draining")], []], True
    sweep(held, hours=1)
    api.pages = None
    sweep(held, minutes=1)
    assert operation.moments.filter(text__startswith="Not observed").count() == 1


# D13

TROUBLES = {
    "429": (429, "rate_limited"),
    "429, Retry-After": (429, "rate_limited", ("Retry-After", "20")),
    "500": (500, "internal_error"),
    "502": (502, ""),
    "504": (504, ""),
    "reset": "reset",
    "silence": "silence",
    "refused": "closed port",
}
PROBES = {1: 2, 60: 12, 3600: 62}  # at most, in so many seconds


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits in earnest, neither for an answer nor between two tries."""
    monkeypatch.setattr("engines.snapshots.client_for", lambda key: client_for(key, timeout=0.05))
    monkeypatch.setattr("engines.api.client.time.sleep", lambda _: None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [
        *(
            pytest.param(trouble, seconds, id=f"{name}, {seconds} s")
            for name, trouble in TROUBLES.items()
            for seconds in PROBES
            if seconds < 3600 or name in ("429", "500", "silence")
        ),
    ],
)
def test_d13_trouble_at_the_api_is_probed_ever_less_shown_and_over_within_a_minute(
    api, operation, held, client_of, olga, trouble, seconds
):
    put(operation, "working", sent_at=NOW - timedelta(minutes=1))
    Connection.objects.update(refreshed_at=NOW, refresh_due_at=NOW)
    api.engines["eng_1"] = dto(status="draining")
    bad = {"base_url": "http://127.0.0.1:1"} if trouble == "closed port" else {}
    good = {"base_url": api.url}
    api.trouble = {} if bad else {LIST: trouble, "GET /engines/eng_1": trouble}
    Connection.objects.update(**bad)
    probes = 0
    for _ in range(min(seconds, 60)):
        before = len(api.requests)
        sweep(held, seconds=max(1, seconds // 60))
        probes += len(api.requests) > before
    assert probes <= PROBES[seconds]
    assert Connection.objects.get().failing_since is not None
    assert "has failed since" in client_of(olga).get("/engines/").content.decode()
    assert state_of(operation) == State.WORKING
    api.trouble, api.engines["eng_1"] = {}, dto(status="stopped")
    Connection.objects.update(**(good if bad else {}))
    for passed in itertools.count(1):
        sweep(held, seconds=1)
        if state_of(operation) == State.SUCCEEDED:
            break
        assert passed <= 67  # a minute, and the spread of it


# D8


def test_d8_a_stop_that_takes_the_place_of_a_drain_is_sent_once(api, operation, held, client_of, ada, acme_connection):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    sweep(held, seconds=1)
    sweep(held, seconds=3)
    browser, path = client_of(ada), "/engines/eng_1/stop/"
    page = browser.get(path).content.decode()
    assert "takes the place of a drain" in page
    assert "kernel patch" in page
    assert "<strong>render</strong>" in page
    ticket = unescape(re.search(r'name="ticket" value="([^"]+)"', page)[1])
    assert browser.post(path, {"reason": "now", "deadline": "2", "ticket": ticket}).status_code == 302
    for _ in range(5):
        sweep(held, seconds=3)
    assert state_of(operation) == State.SUPERSEDED
    assert posts(api) == [DRAIN, "POST /engines/eng_1/stop"]


# D10


def test_d10_of_five_hundred_engines_each_has_an_outcome(api, held, acme_connection, olga, olgas_key, client_of):
    offline, away, forbidden, broken = range(10), range(10, 20), range(20, 25), 25
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"e-{n:03}") for n in range(500)}
    for n in offline:
        api.engines[f"eng_{n}"]["status"] = "disconnected"
    read(acme_connection, *api.engines.values())
    for n in away:
        api.trouble[f"POST /engines/eng_{n}/drain"] = (409, "engine_offline")
    for n in forbidden:
        api.trouble[f"POST /engines/eng_{n}/drain"] = (403, "forbidden")
    api.trouble[f"POST /engines/eng_{broken}/drain"] = (500, "internal_error")
    browser, path = client_of(olga), "/engines/many/drain/?all=1"
    page = browser.get(path).content.decode()
    ticket = unescape(re.search(r'name="ticket" value="([^"]+)"', page)[1])
    words = {"reason": "new kernel", "deadline": "2", "ticket": ticket}
    assert browser.post(path, words).status_code == 422  # more than the guard allows, and nobody has said so
    assert Operation.objects.count() == 0
    assert browser.post(path, words | {"despite": "on"}).status_code == 302
    batch = Batch.objects.get()
    for _ in range(3):
        sweep(held, seconds=6)
    outcome = {
        State.REFUSED: len(away) + len(forbidden),
        State.WORKING: 500 - len(offline) - len(away) - len(forbidden) - 1,
    }
    found = outcomes(batch)
    assert found.pop(State.UNKNOWN, 0) + found.pop(State.REQUESTED, 0) == 1  # the one that broke is tried again
    assert found == outcome
    assert len(batch.not_asked) == len(offline)


# D17


@pytest.fixture
def listed(api, acme_connection, olgas_key):
    """Four engines, known from a whole pass; a page has two."""
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"e-{n}") for n in range(4)}
    api.page = 2
    read(acme_connection, *api.engines.values())
    return [api.engines[f"eng_{n}"] for n in range(4)]


def known():
    return dict(Engine.objects.order_by("uid").values_list("uid", "status"))


RUNNING = dict.fromkeys(["eng_0", "eng_1", "eng_2", "eng_3"], "running")


def test_d17_a_cursor_that_expired_is_said_and_the_next_pass_converges(api, listed, held):
    api.pages, api.expired = [listed[:2], listed[2:]], True
    sweep(held, seconds=20)
    assert "refused the request (400" in Connection.objects.get().last_error
    assert known() == RUNNING
    api.expired = False
    listed[3]["status"] = "draining"
    sweep(held, seconds=20)
    assert Connection.objects.get().last_error == ""
    assert known() == RUNNING | {"eng_3": "draining"}


def test_d17_what_is_listed_twice_is_one_engine_and_what_has_no_id_hides_nothing(api, listed, held):
    api.pages = [[listed[0], listed[1], {"name": "nameless"}], [listed[1], listed[2], listed[2]], [listed[3]]]
    sweep(held, seconds=20)
    assert Connection.objects.get().last_error == ""
    assert known() == RUNNING


def test_d17_an_engine_that_slipped_between_two_pages_again_and_again_is_asked_for_and_kept(api, listed, held):
    api.pages = [listed[:2], listed[3:]]
    for _ in range(3):
        sweep(held, seconds=20)
    assert api.sent("GET", "/engines/eng_2") != []
    assert known() == RUNNING


# D20


def test_d20_an_engine_that_went_to_another_team_is_not_this_one_any_more(api, operation, held, acme_connection):
    api.engines["eng_1"] = dto(team_id="team_a", status="draining")
    put(operation, "working", sent_at=NOW - timedelta(minutes=1))
    sweep(held, seconds=20)
    api.engines["eng_1"] = dto(team_id="team_b", status="stopped")
    for _ in range(2):
        sweep(held, seconds=20)
    assert state_of(operation) == State.NEEDS_ATTENTION
    assert Engine.objects.get().status == "deleted"


@pytest.mark.parametrize("answer", [(404, "not_found"), (403, "forbidden")])
def test_d20_what_the_api_keeps_from_us_now_is_refused(api, operation, held, answer):
    api.trouble[DRAIN] = answer
    sweep(held, seconds=1)
    assert state_of(operation) == State.REFUSED


# D22


def test_d22_a_key_that_was_revoked_stops_the_watching_with_the_reason_until_another_may_read(
    api, operation, held, client_of, ada, olga, acme_connection
):
    sweep(held, seconds=1)
    sweep(held, seconds=3)
    api.refused.add("inf_olga_key")
    api.engines["eng_1"] = dto(status="stopped")
    sweep(held, seconds=20)
    assert state_of(operation) == State.WORKING
    assert "refused this key (401)" in client_of(olga).get("/engines/").content.decode()
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:read"])
    sweep(held, seconds=70)
    assert state_of(operation) == State.SUCCEEDED
    assert "401" in StoredKey.objects.get(user=olga).last_error
