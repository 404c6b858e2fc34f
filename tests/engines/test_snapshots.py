"""The fleet as last read: converges, forgets nothing silently, and shows how old it is."""

import threading
import time
from datetime import timedelta
from email.utils import formatdate

import pytest
from django.db import connection as db

from engines import snapshots
from engines.api.errors import ApiBusy, NoAnswer
from engines.enums import State
from engines.models import Engine
from engines.snapshots import columns, fingerprint, look_soon, refresh, seen_at
from portal import clock
from portal.accounts.models import User
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import NOW, dto, put, read

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet(api, acme_connection, olgas_key):
    for number in range(2, 8):
        api.engines[f"eng_{number}"] = dto(uid=f"eng_{number}", name=f"cpu-{number}")
    return acme_connection


def again(connection, after=timedelta(minutes=1)):
    Connection.objects.filter(pk=connection.pk).update(refresh_due_at=None, refreshed_at=NOW - timedelta(days=1))
    refresh(connection.pk, NOW + after)
    connection.refresh_from_db()


def test_a_pass_reads_every_page(api, fleet):
    api.page = 3
    again(fleet)
    assert Engine.objects.count() == 7
    assert len(api.sent("POST", "/engines/list")) == 3


def test_an_engine_that_one_pass_missed_is_not_given_up(api, fleet):
    again(fleet)
    del api.engines["eng_3"]
    again(fleet)
    assert Engine.objects.get(uid="eng_3").status == "running"
    assert Engine.objects.get(uid="eng_3").missing_since


def test_an_engine_that_two_passes_and_a_question_missed_is_deleted(api, fleet):
    again(fleet)
    del api.engines["eng_3"]
    again(fleet)
    again(fleet)
    assert Engine.objects.get(uid="eng_3").status == "deleted"


def test_two_workers_do_not_read_the_same_fleet(api, fleet):
    Connection.objects.update(refresh_lease_until=NOW + timedelta(seconds=10))
    refresh(fleet.pk, NOW)
    assert api.requests == []


def test_watching_one_operation_asks_for_one_engine(api, fleet, operation):
    again(fleet)
    put(operation, "working")
    api.requests.clear()
    Connection.objects.update(refresh_due_at=None)
    refresh(fleet.pk, Connection.objects.get().refreshed_at + timedelta(seconds=2))
    assert api.requests == ["GET /engines/eng_1"]


def test_an_api_that_is_down_leaves_what_was_read_and_says_since_when(api, fleet):
    again(fleet)
    api.close()
    again(fleet)
    assert fleet.failing_since
    assert fleet.last_error
    assert Engine.objects.count() == 7


def test_recovery_clears_the_failure(api, fleet):
    Connection.objects.update(failing_since=NOW, last_error="gone")
    again(fleet)
    assert (fleet.failing_since, fleet.last_error) == (None, "")


def test_a_team_without_a_key_is_told_so(api, acme_connection):
    again(acme_connection)
    assert "Keys page" in acme_connection.last_error


def test_a_key_that_the_api_refuses_is_flagged_and_the_next_one_is_used(api, fleet, ada):
    store(user=ada, connection=fleet, secret=Secret("inf_refused"), label="old", scopes=["*"])
    api.refused.add("inf_refused")
    again(fleet)
    assert Engine.objects.count() == 7
    assert "401" in StoredKey.objects.get(user=ada).last_error


def test_a_key_that_works_again_is_not_flagged_any_more(api, fleet):
    StoredKey.objects.update(last_error="401")
    again(fleet)
    assert StoredKey.objects.get().last_error == ""


def test_a_key_of_somebody_who_left_the_team_is_not_used(api, fleet, olga):
    olga.memberships.all().delete()
    again(fleet)
    assert api.requests == []


def test_a_key_of_somebody_who_was_switched_off_is_not_used(api, fleet, olga):
    User.objects.filter(pk=olga.pk).update(is_active=False)
    again(fleet)
    assert api.requests == []


def test_a_look_asked_for_during_a_pass_is_not_forgotten_at_its_end(api, fleet, monkeypatch):
    def asked(client, connection, now):
        look_soon(connection, clock.now())
        return read_with(client, connection, now)

    read_with = snapshots._read_with
    monkeypatch.setattr(snapshots, "_read_with", asked)
    again(fleet)
    assert fleet.refresh_due_at < clock.now() + timedelta(seconds=2)


def test_a_key_entered_while_a_reading_fails_has_the_fleet_read_at_once(api, fleet, monkeypatch):
    def entered(client, connection, now):
        Connection.objects.update(refresh_due_at=None)
        raise NoAnswer("no answer")

    monkeypatch.setattr(snapshots, "_read_with", entered)
    again(fleet)
    assert (fleet.refresh_due_at, fleet.last_error) == (None, "no answer")


def test_an_api_that_asks_for_a_pause_gets_it(api, fleet, monkeypatch):
    def busy(client, connection, now):
        raise ApiBusy("slow down", retry_after=120)

    monkeypatch.setattr(snapshots, "_read_with", busy)
    again(fleet)
    assert fleet.refresh_due_at > clock.now() + timedelta(seconds=100)


@pytest.mark.django_db(transaction=True)
def test_of_two_readings_at_once_the_newer_one_stays(engine, acme_connection, monkeypatch):
    reading, newer_done = threading.Event(), threading.Event()
    columns_of = snapshots.columns

    def slow(wire, read_at):
        if wire["status"] == "pending":  # the older one has seen the row and is about to write
            reading.set()
            newer_done.wait(0.3)
        return columns_of(wire, read_at)

    def newer():
        try:
            reading.wait(5)
            read(acme_connection, dto(status="draining"), at=NOW + timedelta(seconds=2))
        finally:
            newer_done.set()
            db.close()

    monkeypatch.setattr(snapshots, "columns", slow)
    thread = threading.Thread(target=newer)
    thread.start()
    read(acme_connection, dto(status="pending"), at=NOW + timedelta(seconds=1))
    thread.join(10)
    assert Engine.objects.get().status == "draining"


def test_d18_a_list_that_lags_behind_what_was_read_moves_nothing(api, fleet, operation, held):
    again(fleet)
    put(operation, "working")
    api.engines["eng_1"] = dto(status="draining")
    api.listed["eng_1"] = dto(status="running")
    read(fleet, dto(status="draining"), at=NOW + timedelta(seconds=30))
    held.advance(minutes=2)
    again(fleet, timedelta(minutes=2))
    operation.refresh_from_db()
    assert (operation.state, Engine.objects.get(uid="eng_1").status) == (State.WORKING, "draining")


def test_d18_an_engine_that_forgot_the_drain_is_asked_itself_and_then_believed(api, fleet, operation, held):
    again(fleet)
    put(operation, "working")
    read(fleet, dto(status="draining"), at=NOW + timedelta(seconds=30))
    held.advance(minutes=2)
    again(fleet, timedelta(minutes=2))
    operation.refresh_from_db()
    assert "GET /engines/eng_1" in api.requests
    assert operation.state == State.NEEDS_ATTENTION


def test_d18_an_engine_in_doubt_that_does_not_answer_stays_as_it_was_and_the_others_are_read(api, fleet, held):
    again(fleet)
    read(fleet, dto(status="draining"), at=NOW + timedelta(seconds=30))
    api.trouble["GET /engines/eng_1"] = (400, "odd")
    api.engines["eng_2"]["name"] = "renamed"
    held.advance(minutes=2)
    again(fleet, timedelta(minutes=2))
    assert Engine.objects.get(uid="eng_1").status == "draining"
    assert Engine.objects.get(uid="eng_2").name == "renamed"


def test_d18_an_answer_that_is_older_by_the_apis_own_clock_is_ignored_for_a_while(engine, acme_connection):
    at = NOW + timedelta(seconds=10)
    read(acme_connection, dto(status="draining", updated_at="2026-11-23T12:00:05Z"), at=at)
    lagging = dto(status="pending", updated_at="2026-11-23T12:00:01Z")
    read(acme_connection, lagging, at=at + timedelta(seconds=30))
    assert Engine.objects.get().status == "draining"
    read(acme_connection, lagging, at=at + timedelta(minutes=2))
    assert Engine.objects.get().status == "pending"


@pytest.mark.parametrize(("ahead", "words"), [(600, "10 min ahead of ours"), (-600, "10 min behind ours"), (20, "")])
def test_d15_an_api_whose_clock_differs_is_named_and_deadlines_stay_ours(
    api, fleet, operation, client_of, ada, ahead, words
):
    put(operation, "working", deadline_at=NOW + timedelta(minutes=9))
    api.ahead = ahead
    api.engines["eng_1"] = dto(status="draining", updated_at=formatdate(time.time() + ahead))
    again(fleet)
    assert abs(fleet.skew - ahead) <= 5
    Connection.objects.update(skew=round(fleet.skew, -1))  # the seconds that the test took
    for path in ("/engines/", "/connections/"):
        page = client_of(ada).get(path).content.decode()
        assert ("ours" in page and words in page) if words else "s clock is" not in page
    operation.refresh_from_db()
    assert operation.state == State.WORKING


def test_the_age_is_that_of_the_last_pass_even_if_the_row_was_not_rewritten(engine, acme_connection):
    acme_connection.refreshed_at = NOW + timedelta(minutes=5)
    assert seen_at(engine, acme_connection) == NOW + timedelta(minutes=5)


def test_the_age_of_an_engine_that_passes_miss_stays(engine, acme_connection):
    acme_connection.refreshed_at, engine.missing_since = NOW + timedelta(minutes=5), NOW
    assert seen_at(engine, acme_connection) == NOW


def test_a_reading_older_than_the_row_is_ignored(engine, acme_connection):
    read(acme_connection, dto(status="stopped"), at=NOW - timedelta(seconds=1))
    assert Engine.objects.get().status == "running"


def test_meter_readings_alone_change_nothing():
    assert fingerprint(dto(updated_at="1", system_info={"ram": {"used": 1}})) == fingerprint(
        dto(updated_at="2", system_info={"ram": {"used": 2}})
    )


@pytest.mark.parametrize("strange", [{"workers": None}, {"workers": [None]}, {"system_info": None}, {"name": None}])
def test_missing_and_null_members_are_survived(strange):
    assert columns(dto() | strange, NOW)["workers_total"] in (0, 2)
