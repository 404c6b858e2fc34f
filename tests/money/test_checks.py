"""The daily check: what it compares with at first and at last, and what it says of engines that it cannot compare."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from engines import snapshots
from engines.models import DayCheck, Engine
from engines.money import checks
from engines.money.reconcile import resolve
from engines.operations.moves import Decider
from tests.money.conftest import NOON, ORIGIN, ask, fresh, seen, sweep
from tests.money.test_dialog import words
from tests.money.test_page import URL, checked

pytestmark = pytest.mark.django_db


def check(clock):
    checks.check_all(clock.at)
    return DayCheck.objects.latest("day")


def said(client):
    return words(client.get(URL)).split("Daily check")[1].split("Booked because")[0]


@pytest.fixture
def yesterday(engine, clock):
    """The engine was checked, and a day has passed."""
    check(clock)
    clock.advance(days=1)


@pytest.fixture
def extended(engine, bill, bills_key, clock):
    """Three hours were bought here, before any check."""
    ask(engine, bill, bills_key)
    sweep()
    clock.advance(minutes=3)


def gone(connection, api, clock):
    """The API has the engine no more: a reading that finds it so."""
    api.engines.pop("eng_1", None)
    snapshots._gone(connection, "eng_1", clock.at)


def test_a_first_reading_with_nothing_to_compare_with_is_said_to_be_one(client_of, victor, engine, clock):
    check(clock)
    shown = said(client_of(victor))
    assert "0 of 1 cloud engine was compared" in shown
    assert "First reading, nothing to compare with: eng_1" in shown
    assert "is in the ledger" not in shown


def test_the_first_check_begins_with_the_end_that_the_ledger_knows(extended, api, acme_connection, clock):
    api.move_end("eng_1", timedelta(hours=6))
    found = checked(api, acme_connection, clock)
    assert (found.begin, found.unexplained) == (NOON + timedelta(hours=8), 6)


def test_what_was_bought_after_that_entry_counts(extended, api, acme_connection, bill, bills_key, clock):
    ask(seen(acme_connection, api, "eng_1"), bill, bills_key, hours="2")
    sweep()
    clock.advance(minutes=3)
    found = checked(api, acme_connection, clock)
    assert (found.ledger_hours, found.unexplained) == (2, 0)


def test_the_check_after_a_first_reading_compares_with_it(client_of, victor, yesterday, api, acme_connection, clock):
    checked(api, acme_connection, clock)
    assert "1 of 1 cloud engine was compared with the ledger. Every hour that its paid time moved by is in" in said(
        client_of(victor)
    )


def test_it_says_how_many_were_compared_and_why_the_others_were_not(
    client_of, victor, yesterday, api, acme_connection, bill, bills_key, clock
):
    checked(api, acme_connection, clock)
    for uid in ("eng_2", "eng_3", "eng_4", "eng_5"):
        api.add(uid, NOON + timedelta(days=3))
    api.engines["eng_2"]["instance"]["auto_delete"] = None
    for uid in ("eng_2", "eng_3", "eng_4"):
        seen(acme_connection, api, uid)
    Engine.objects.filter(uid="eng_3").update(missing_since=clock.at)
    clock.advance(minutes=10)
    acme_connection.refreshed_at = clock.at
    acme_connection.save()
    ask(seen(acme_connection, api, "eng_4"), bill, bills_key)
    seen(acme_connection, api, "eng_5")
    shown = said(client_of(victor))
    assert "1 of 5 cloud engines was compared" in shown
    for line in (
        "Not checked, no paid end reported: eng_2",
        "Not checked, not read: eng_3 (for ",
        "Not checked, a purchase is open: eng_4",
        "Not checked, waits for the next reading: eng_5",
    ):
        assert line in shown


def test_the_end_is_compared_where_no_price_is_reported(yesterday, api, acme_connection, clock):
    del api.engines["eng_1"]["instance"]["hourly_price"]
    api.move_end("eng_1", timedelta(hours=6))
    assert checked(api, acme_connection, clock).unexplained == 6


def test_hours_bought_just_before_an_engine_was_deleted_are_found(yesterday, api, acme_connection, clock):
    api.move_end("eng_1", timedelta(hours=6))
    seen(acme_connection, api, "eng_1")
    clock.advance(minutes=30)
    gone(acme_connection, api, clock)
    clock.advance(hours=1)
    found = check(clock)
    assert (found.unexplained, found.read_at) == (6, clock.at - timedelta(hours=1))


def test_what_was_bought_here_and_not_read_before_the_end_is_explained(
    engine, bill, bills_key, api, acme_connection, clock
):
    check(clock)
    clock.advance(minutes=1)
    ask(engine, bill, bills_key)
    sweep()
    Engine.objects.update(wire=engine.wire)  # no reading since
    clock.advance(minutes=3)
    gone(acme_connection, api, clock)
    clock.advance(days=1)
    assert (check(clock).ledger_hours, check(clock).unexplained) == (Decimal(3), 0)


def test_a_purchase_that_a_person_settles_after_the_end_is_waited_for(
    engine, ada, bill, bills_key, api, acme_connection, clock
):
    check(clock)
    clock.advance(minutes=1)
    api.faults = [("silence", True)]
    asked = ask(engine, bill, bills_key)
    sweep()
    gone(acme_connection, api, clock)
    clock.advance(days=1)
    sweep()
    assert checks.check_all(clock.at) == 0
    resolve(fresh(asked), applied=True, by=Decider(ada, ORIGIN, "entry 12"))
    found = check(clock)
    assert (found.ledger_hours, found.unexplained) == (3, 0)


@pytest.mark.parametrize("status", ["deleted", "stopped"])
def test_an_engine_that_has_ended_is_compared_once_more(yesterday, api, acme_connection, clock, status):
    api.engines["eng_1"]["status"] = status
    clock.advance(minutes=1)
    seen(acme_connection, api, "eng_1")
    assert checks.check_all(clock.at) == 1
    clock.advance(days=1)
    assert checks.check_all(clock.at) == 0
    assert checks.coverage(acme_connection.team, clock.at).total == 0


def test_an_engine_that_ends_after_todays_check_is_compared_tomorrow(engine, api, acme_connection, clock):
    check(clock)
    clock.advance(hours=1)
    gone(acme_connection, api, clock)
    assert checks.check_all(clock.at) == 0
    clock.advance(days=1)
    assert checks.check_all(clock.at) == 1


def test_an_engine_whose_machine_is_gone_from_the_reading_is_not_passed_over(
    client_of, victor, yesterday, api, acme_connection, clock
):
    api.engines["eng_1"]["instance"] = None
    clock.advance(minutes=1)
    seen(acme_connection, api, "eng_1")
    assert checks.check_all(clock.at) == 0
    assert "0 of 1 cloud engine was compared" in said(client_of(victor))


def test_what_ended_more_than_a_month_ago_is_past_its_last_check(engine, api, acme_connection, clock):
    gone(acme_connection, api, clock)
    clock.advance(days=32)
    assert checks.check_all(clock.at) == 0
    assert checks.coverage(acme_connection.team, clock.at).total == 0


def test_many_unchecked_engines_cost_no_more_questions(engine, api, acme_connection, clock):
    clock.advance(hours=1)

    def questions():
        with CaptureQueriesContext(database) as asked:
            checks.coverage(acme_connection.team, clock.at)
        return len(asked)

    one = questions()
    for number in range(2, 12):
        api.add(f"eng_{number}", NOON + timedelta(days=3))
        seen(acme_connection, api, f"eng_{number}")
    assert questions() == one
