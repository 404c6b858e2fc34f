"""The dialog: what it shows is what is bought, once, by who was shown it."""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine

from engines.models import LedgerEntry, Operation, Proposal
from engines.money.models import Freeze, Limits
from engines.money.quote import Quote
from portal.audit.models import Entry
from portal.vault.models import Connection
from tests.engines.conftest import dto, read
from tests.money.conftest import NOON, booked, key_of, quote, seen, sweep

pytestmark = pytest.mark.django_db
URL = "/engines/eng_1/extend/"


@pytest.fixture
def browser(client_of, bill, bills_key, engine):
    return client_of(bill)


def form_of(page):
    """The fields of the dialog's form, as a browser would send them."""
    signed = re.search(r'name="quote" value="([^"]+)"', page.content.decode())
    return {"quote": signed.group(1), "reason": "finish the render"}


def open_dialog(browser, query="?hours=3"):
    return browser.get(f"{URL}{query}")


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def test_it_shows_price_hours_cost_balance_and_both_ends(browser):
    shown = words(open_dialog(browser))
    for part in ("3 h at $2.50 an hour", "Cost $7.50", "$100.00", "$92.50", "2026-11-23 17:00:00 UTC", "20:00:00 UTC"):
        assert part in shown


def test_it_shows_both_ends_on_the_viewers_clock(browser):
    browser.cookies["tz"] = "Europe/Berlin"
    shown = words(open_dialog(browser))
    assert "Mon 23 Nov 18:00 CET" in shown
    assert "Mon 23 Nov 21:00 CET" in shown


@pytest.mark.parametrize("zone", ["../../etc/passwd", "Nowhere/Else", "", "caf\xe9"])
def test_a_time_zone_that_is_none_is_utc(browser, zone):
    browser.cookies["tz"] = zone
    assert "Mon 23 Nov 17:00 UTC" in words(open_dialog(browser))


@pytest.mark.parametrize(
    ("to", "hours", "cost"), [("tonight", "7 h", "$17.50"), ("friday", "97 h", "$242.50"), ("day", "24 h", "$60.00")]
)
def test_its_chips_say_what_each_costs(browser, to, hours, cost):
    shown = words(open_dialog(browser, f"?to={to}"))
    assert f"{hours} at $2.50" in shown
    assert f"Cost {cost}" in shown


def test_friday_is_next_friday_once_it_has_struck(browser, clock, api, acme_connection):
    clock.at = NOON + timedelta(days=4, hours=7)  # Friday 19:00
    api.add("eng_1", clock.at + timedelta(hours=1))
    seen(acme_connection, api, "eng_1")
    assert "Fri 04 Dec 18:00" in words(open_dialog(browser, "?to=friday"))


def test_e2_confirmed_twice_it_is_one_operation(browser, api, acme):
    form = form_of(open_dialog(browser))
    first, second = browser.post(URL, form), browser.post(URL, form)
    sweep()
    assert first["Location"] == second["Location"]
    assert (Operation.objects.count(), len(api.charges), booked(acme)) == (1, 1, 750_000_000)


def test_e3_confirmed_again_after_it_was_bought_leads_to_the_same_page(browser, api):
    form = form_of(open_dialog(browser))
    first = browser.post(URL, form)
    browser.get(first["Location"])
    sweep()
    assert browser.post(URL, form)["Location"] == first["Location"]
    again = words(browser.get(first["Location"]))
    assert ("This form was sent before" in again, "is on its way" in again) == (True, False)
    sweep()
    assert len(api.charges) == 1


def test_e3_the_same_form_with_other_words_is_refused(browser):
    form = form_of(open_dialog(browser))
    browser.post(URL, form)
    page = browser.post(URL, form | {"reason": "something else"})
    assert page.status_code == 422
    assert Operation.objects.count() == 1
    # "Nothing was bought" would be a lie, and have it bought once more.
    assert "Nothing was bought." not in words(page)
    assert f'<a href="/operations/{Operation.objects.get().pk}/">See what became of it</a>' in page.content.decode()


def test_e3_a_form_of_long_ago_that_was_sent_in_time_leads_to_what_it_bought(browser, api):
    with time_machine.travel(NOON, tick=False):
        form = form_of(open_dialog(browser))
        first = browser.post(URL, form)
    sweep()
    with time_machine.travel(NOON + timedelta(minutes=16), tick=False):
        again = browser.post(URL, form)
    assert again["Location"] == first["Location"]
    sweep()
    assert (Operation.objects.count(), len(api.charges)) == (1, 1)


def test_e3_a_form_of_long_ago_buys_nothing_with_other_words_either(browser, api):
    with time_machine.travel(NOON, tick=False):
        form = form_of(open_dialog(browser))
        browser.post(URL, form)
    sweep()
    with time_machine.travel(NOON + timedelta(minutes=16), tick=False):
        page = browser.post(URL, form | {"reason": "something else"})
    assert (page.status_code, "See what became of it" in words(page)) == (422, True)
    assert (Operation.objects.count(), len(api.charges)) == (1, 1)


def test_e4_altered_hours_are_refused_and_recorded(browser, api):
    form = form_of(open_dialog(browser))
    form["quote"] = form["quote"].replace("A", "B", 1)[:-1]
    page = browser.post(URL, form)
    assert page.status_code == 422
    assert "Nothing was bought." in words(page)
    assert Entry.objects.filter(action="cloudtime.refused", outcome="refused").count() == 1
    assert Operation.objects.count() == 0


def test_e4_the_same_purchase_validly_signed_for_other_hours_is_refused_and_recorded(browser, engine, bill):
    first = quote(engine)
    browser.post(URL, {"quote": first.sign(engine, bill), "reason": "finish the render"})
    other = replace(first, hours=Decimal(30), target=first.target + timedelta(hours=27))
    page = browser.post(URL, {"quote": other.sign(engine, bill), "reason": "finish the render"})
    assert page.status_code == 422
    assert "This form was sent before with other words." in words(page)
    assert Entry.objects.filter(action="cloudtime.refused", outcome="refused").count() == 1
    assert Operation.objects.get().extension.hours == 3


def test_e5_a_form_of_a_quarter_of_an_hour_ago_shows_fresh_values(browser):
    with time_machine.travel(NOON, tick=False):
        form = form_of(open_dialog(browser))
    with time_machine.travel(NOON + timedelta(minutes=16), tick=False):
        page = browser.post(URL, form)
    assert page.status_code == 422
    assert form_of(page)["quote"] != form["quote"]


def test_e5_a_form_of_somebody_else_is_refused(browser, client_of, ada, adas_key):
    form = form_of(open_dialog(browser))
    assert client_of(ada).post(URL, form).status_code == 422
    assert Operation.objects.count() == 0


def test_e5_a_form_for_another_engine_is_refused(browser, api, acme_connection):
    api.add("eng_2", NOON + timedelta(hours=5))
    seen(acme_connection, api, "eng_2")
    form = form_of(open_dialog(browser))
    assert browser.post("/engines/eng_2/extend/", form).status_code == 422


def test_e5_a_form_of_another_team_is_refused(browser, client_of, mallory, other_team, api):
    theirs = Connection.objects.create(team=other_team, name="Theirs", base_url=api.url)
    key_of(mallory, theirs)
    seen(theirs, api, "eng_1")
    form = form_of(open_dialog(browser))
    assert client_of(mallory).post(URL, form).status_code == 422
    assert Operation.objects.count() == 0


NOT_PAID = {
    "self-hosted": None,
    "nothing known": {},
    "no end": {"hourly_price": 250},
    "no price": {"hourly_price": 0, "auto_delete": {"date_threshold": "2026-11-23T17:00:00Z"}},
}


@pytest.mark.parametrize("instance", NOT_PAID.values(), ids=NOT_PAID)
def test_e12_what_has_no_paid_time_cannot_be_extended(browser, acme_connection, engine, bill, api, instance):
    read(acme_connection, dto(uid="eng_1", instance=instance), at=NOON + timedelta(seconds=1))
    dialog = open_dialog(browser)
    assert (dialog.context["quote"], b'type="submit"' in dialog.content.split(b"<main")[1]) == (None, False)
    page = browser.get("/engines/eng_1/").content.decode()
    assert 'href="/engines/eng_1/extend/"' not in page
    assert 'disabled aria-describedby="why-extend"' in page
    signed = quote(engine).sign(engine, bill)
    assert browser.post(URL, {"quote": signed, "reason": "x"}).status_code == 409
    assert api.posts() == []


def test_a_price_that_changed_since_is_shown_before_anything_is_recorded(browser, api, acme_connection, clock):
    form = form_of(open_dialog(browser))
    api.engines["eng_1"]["instance"]["hourly_price"] = 300
    clock.advance(seconds=5)
    seen(acme_connection, api, "eng_1")
    page = browser.post(URL, form)
    assert page.status_code == 409
    assert "The price was $2.50 an hour when you opened this; now it is $3.00 an hour." in words(page)
    assert "Cost $9.00" in words(page)


def test_the_shown_form_can_be_confirmed_after_a_difference(browser, api, acme_connection, clock):
    form = form_of(open_dialog(browser))
    api.engines["eng_1"]["instance"]["hourly_price"] = 300
    clock.advance(seconds=5)
    seen(acme_connection, api, "eng_1")
    assert browser.post(URL, form_of(browser.post(URL, form))).status_code == 302
    sweep()
    assert LedgerEntry.objects.get().cost == 900_000_000


@pytest.mark.parametrize("hours", ["0", "-1", "NaN", "1e309", "0.0001", "3,5", "[]", "99999", "1.005", "\0", "x" * 400])
def test_hours_that_are_none_are_said_to_be_none(browser, hours):
    page = browser.get(URL, {"hours": hours})
    assert page.status_code == 200
    assert page.context["quote"] is None
    assert "field-error" in page.content.decode()


@pytest.mark.parametrize(
    "until", ["yesterday", "2026-11-23T13:00", "9999-12-31T23:59", "0001-01-01T00:00", "2026-13-40"]
)
def test_times_that_are_none_are_said_to_be_none(browser, until):
    assert browser.get(URL, {"until": until}).context["quote"] is None


def test_until_an_own_date_and_time_is_on_the_viewers_clock_with_utc_beside(browser):
    browser.cookies["tz"] = "Europe/Berlin"
    page = open_dialog(browser, "?until=2026-11-24T07:30")
    shown = words(page)
    for part in ("13.50 h at $2.50", "Tue 24 Nov 07:30 CET", "That is 2026-11-24 06:30:00 UTC.", "Europe/Berlin"):
        assert part in shown
    assert 'type="datetime-local" id="until-at" name="until" value="2026-11-24T07:30"' in page.content.decode()


def test_until_so_soon_that_more_is_bought_it_shows_the_end_that_is_bought(browser, api):
    page = open_dialog(browser, "?until=2026-11-23T17:03")  # three minutes more; a quarter of an hour is the least
    assert "Then until Mon 23 Nov 17:15 UTC 2026-11-23 17:15:00 UTC" in words(page)
    browser.post(URL, form_of(page))
    sweep()
    assert f"{api.ends('eng_1'):%H:%M}" == "17:15"


@pytest.mark.parametrize(
    ("limit", "said"), [("operation_hours", "At most 2 hours"), ("user_day", "This costs $7.50. You may spend")]
)
def test_what_is_over_a_limit_is_said_before_anything_is_written(browser, acme, limit, said):
    Limits.objects.create(team=acme, **{limit: 2, "approval_cost": 1})
    page = open_dialog(browser)
    assert f"Not possible now. {said}" in words(page)
    assert 'name="reason"' not in page.content.decode()
    assert "second person" not in words(page)


@pytest.mark.parametrize("ask", ["hours=200", "hours=none"])
def test_what_was_written_outlasts_a_choice_that_cannot_be_bought(browser, ask):
    page = browser.get(f"{URL}?{ask}&reason=for+client+X", headers={"HX-Request": "true"}).content.decode()
    assert 'id="id_reason" name="reason" value="for client X"' in page
    assert '<button type="submit" class="btn btn-primary"' not in page


def test_what_was_typed_and_cannot_be_bought_stays_in_the_field(browser):
    page = open_dialog(browser, "?until=2026-11-23T13:00").content.decode()
    assert 'value="2026-11-23T13:00"' in page
    assert "It runs until then anyway" in page


def test_a_frozen_team_cannot_confirm(browser, acme):
    form = form_of(open_dialog(browser))
    Freeze.objects.create(team=acme, at=NOON, by="Ada", reason="budget")
    page = browser.post(URL, form)
    assert page.status_code == 409
    assert "Spending is frozen" in words(page)


def test_an_api_without_balances_is_worked_with(browser, api, monkeypatch):
    api.balance = None
    assert "Balance" not in words(open_dialog(browser))


def test_a_short_balance_is_said(browser, api):
    api.balance = 100
    assert "That is not enough" in words(open_dialog(browser))


def test_as_a_dialog_it_is_a_fragment(browser):
    page = browser.get(URL, headers={"HX-Request": "true"})
    assert b"<html" not in page.content
    assert b"dialog-title" in page.content


def test_hours_up_to_a_time_are_rounded_up_and_costs_are_exact():
    from engines.money.amounts import PaidTime

    made = Quote.until(NOON + timedelta(hours=1, seconds=1), PaidTime(NOON, 333))
    assert (made.hours, made.cost) == (Decimal("1.01"), 336_330_000)


def test_a_deadline_that_was_moved_by_somebody_else_is_shown_on_both_clocks(browser, api, acme_connection, clock):
    browser.cookies["tz"] = "Europe/Berlin"
    form = form_of(open_dialog(browser))
    api.engines["eng_1"]["instance"]["auto_delete"]["date_threshold"] = "2026-11-23T18:00:00Z"
    clock.advance(seconds=5)
    seen(acme_connection, api, "eng_1")
    page = browser.post(URL, form)
    assert page.status_code == 409
    was, now = "Mon 23 Nov 18:00 CET (2026-11-23 17:00 UTC)", "Mon 23 Nov 19:00 CET (2026-11-23 18:00 UTC)"
    assert f"It was paid until {was} when you opened this; now it is until {now}." in words(page)


def test_an_engine_that_went_offline_since_is_not_paid_for_unseen(browser, api, acme_connection, clock):
    form = form_of(open_dialog(browser))
    api.engines["eng_1"]["status"] = "disconnected"
    clock.advance(seconds=5)
    seen(acme_connection, api, "eng_1")
    page = browser.post(URL, form)
    assert page.status_code == 409
    assert "the engine was running; now it is disconnected" in words(page)
    assert browser.post(URL, form_of(page)).status_code == 302


def test_what_needs_approval_is_asked_only_after_a_recent_proof(confirmed, bill, bills_key, engine, acme):
    Limits.objects.create(team=acme, approval_cost=1)
    browser = confirmed(bill, ago=601)
    page = browser.post(URL, form_of(open_dialog(browser)))
    assert (page.status_code, Proposal.objects.count()) == (409, 0)
    assert "confirm that it is you first" in words(page)
    assert "finish the render" in words(page)


def test_what_needs_no_approval_is_bought_without(confirmed, bill, bills_key, engine):
    browser = confirmed(bill, ago=601)
    assert browser.post(URL, form_of(open_dialog(browser)))["Location"].startswith("/operations/")
