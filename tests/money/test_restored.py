"""K19: a backup came back. What it believes unsent may have been sent since, so nothing of it is sent by itself."""

from datetime import timedelta

import pytest
from django.core.management import call_command

from engines.models import Operation
from engines.money import limits
from engines.money.approve import propose
from engines.operations.request import Wish, request
from tests.money.conftest import NOON, ORIGIN, ask, fresh, quote, settle, sweep

pytestmark = pytest.mark.django_db


@pytest.fixture
def restored(asked):
    """The backup was taken when the purchase was asked and not yet sent."""
    call_command("mark_restored")
    return fresh(asked)


def test_k19_a_purchase_that_waited_in_the_backup_is_to_be_confirmed_again(restored, api, clock):
    assert (restored.state, restored.extension.outcome) == ("needs_reconfirm", "outdated")
    settle(clock, restored, minutes=5)
    assert api.posts() == []


def test_k19_without_the_mark_it_would_be_bought(asked, api, clock):
    sweep()
    assert len(api.posts()) == 1


def test_k19_confirmed_again_it_is_bought_once(restored, api, engine, bill, bills_key, clock):
    again = ask(engine, bill, bills_key)
    sweep()
    assert fresh(again).state == "succeeded"
    assert len(api.charges) == 1


def test_k19_a_purchase_that_was_being_checked_is_not_sent_either(asked, api, clock):
    Operation.objects.update(state="checking", lease_until=NOON + timedelta(seconds=60))
    call_command("mark_restored")
    settle(clock, asked, minutes=5)
    assert (fresh(asked).state, api.posts()) == ("needs_reconfirm", [])


@pytest.mark.uncounted("the ledger that came back has no entry of it: the daily check shows it")
def test_k19_a_purchase_that_was_made_after_the_backup_stops_the_same_form(api, engine, bill, bills_key, clock):
    form = quote(engine)
    api.extend("eng_1", 3)  # bought through this form; the backup has no row of it
    call_command("mark_restored")
    again = ask(engine, bill, bills_key, quote=form)
    sweep()
    assert (fresh(again).extension.outcome, len(api.charges)) == ("satisfied", 1)


def test_k19_what_was_sent_before_the_backup_is_settled_by_readings(asked, api, clock):
    api.faults = [("reset", True)]
    sweep()
    call_command("mark_restored")
    assert settle(clock, asked, minutes=2).extension.outcome == "observed"


def test_k19_other_operations_that_waited_are_cancelled(engine, ada, adas_key, api, clock):
    wish = Wish(quote(engine).id, "restart", "a new driver", timedelta(hours=2), {})
    waiting = request(wish, engine=engine, user=ada, key=adas_key, origin=ORIGIN, now=NOON)
    call_command("mark_restored")
    assert Operation.objects.get(pk=waiting.pk).state == "cancelled"


def test_k19_an_approval_that_was_waited_for_is_void(engine, bill, bills_key, acme, clock, client_of, ada):
    limits_row = limits.limits_of(acme)
    limits_row.approval_cost = 1
    limits_row.save()
    made = propose(quote(engine), "more", engine=engine, user=bill, key=bills_key, origin=ORIGIN, now=NOON)
    call_command("mark_restored")
    made.refresh_from_db()
    assert made.state == "rejected"


def test_k19_pages_say_so_for_a_week(restored, client_of, bill, clock):
    browser = client_of(bill)
    for address in ("/cloud-time/", "/engines/"):
        assert "Restored from a backup" in browser.get(address).content.decode()
    clock.advance(days=8)
    assert "Restored from a backup" not in browser.get("/cloud-time/").content.decode()
