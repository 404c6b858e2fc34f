"""Paid time for many engines at once: one total, and one purchase for each."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection

from engines.models import Batch, Freeze, LedgerEntry, Limits, Operation, Proposal
from engines.money import approve as approvals
from engines.money import limits, many
from engines.operations.moves import Decider
from engines.operations.request import Busy
from portal.vault.models import Connection
from tests.money.conftest import NOON, ORIGIN, ask, fresh, key_of, seen, sweep
from tests.money.paid_api import PaidApi

PATH = "/engines/many/extend/"
ALL = "?all=1&hours=3"
CENT = 10**6
DOLLAR = 100 * CENT


@pytest.fixture
def fleet(acme_connection, api, engine, bills_key, clock):
    """Three rented machines at 250 cents an hour, paid until different times."""
    for number in (2, 3):
        api.add(f"eng_{number}", NOON + timedelta(hours=5 * number))
    return [seen(acme_connection, api, f"eng_{number}") for number in (1, 2, 3)]


@pytest.fixture
def bills(client_of, bill):
    return client_of(bill)


def page(client, query=ALL):
    return client.get(PATH + query).content.decode()


def confirm(client, shown, query=ALL):
    ticket = unescape(re.search(r'name="ticket" value="([^"]+)"', shown)[1])
    return client.post(PATH + query, {"reason": "the render", "ticket": ticket})


def buy(client, query=ALL):
    return confirm(client, page(client, query), query)


def test_the_total_is_shown_first(bills, fleet):
    each = fleet[0].wire["instance"]["hourly_price"] * 3 / 100
    assert f"${3 * each:.2f} in all" in page(bills)


def text_of(shown):
    return " ".join(unescape(re.sub("<[^>]+>", " ", shown)).split())


def row_of(shown, uid):
    return text_of(re.search(rf"<tr>(?:(?!</tr>).)*/engines/{uid}/.*?</tr>", shown, re.DOTALL)[0])


def test_each_engine_says_its_price_hours_cost_and_both_ends_on_both_clocks(bills, fleet):
    bills.cookies["tz"] = "Europe/Berlin"  # NOON is that of a Monday, in UTC
    said = row_of(page(bills), "eng_2")
    assert "$7.50 3 h at $2.50 an hour" in said
    now, then = (NOON + timedelta(hours=hours) for hours in (10, 13))
    assert f"{now:%a %d %b} 23:00 CET {now:%Y-%m-%d %H:%M:%S} UTC" in said
    assert f"{then:%a %d %b} 02:00 CET {then:%Y-%m-%d %H:%M:%S} UTC" in said


def test_more_engines_than_a_page_names_are_in_the_total(bills, fleet, monkeypatch):
    monkeypatch.setattr("engines.views.bulk.SHOWN", 2)
    shown = text_of(page(bills))
    assert "eng_3" not in shown
    assert "and 1 more, which the total includes" in shown
    assert "$22.50 in all" in shown


def test_the_balance_is_shown_before_and_after_all_of_it(bills, fleet, api):
    shown = text_of(page(bills))
    assert "Balance $100.00 $77.50" in shown
    assert "Shown in the ledger" in shown
    api.balance = 20 * DOLLAR
    assert "Balance $20.00 −$2.50 That is not enough: the API will refuse." in text_of(page(bills))


@pytest.fixture
def second_api(bill, acme, fleet):
    """An API of its own, with one rented machine, and a key of Bill's."""
    served = PaidApi()
    served.add("eng_9", NOON + timedelta(hours=5))
    served.balance = 50 * DOLLAR
    second = Connection.objects.create(team=acme, name="Second", base_url=served.url)
    seen(second, served, "eng_9")
    key_of(bill, second)
    yield served
    served.close()


def test_of_several_apis_each_balance_is_shown_with_what_it_pays(bills, second_api):
    shown = text_of(page(bills))
    assert "Balance of Acme's API $100.00 $77.50 Balance of Second $50.00 $42.50" in shown


def test_a_balance_that_is_not_told_beside_one_that_is_says_so(bills, second_api):
    second_api.refused.add("inf_bill_key")
    assert "Balance of Second not known; this costs $7.50 of it" in text_of(page(bills))


def test_an_api_that_hangs_is_waited_for_once(bills, second_api, monkeypatch):
    monkeypatch.setattr("engines.views.bulk.BALANCE_SECONDS", 0)
    assert "Balance" not in text_of(page(bills))


def test_no_api_is_asked_while_a_confirmation_holds_the_teams_lock(bills, fleet, api, monkeypatch):
    def balance(key, cost):
        depths.append(len(connection.savepoint_ids))
        return {}

    depths = []
    monkeypatch.setattr("engines.views.bulk.balance", balance)
    shown = page(bills)
    bills.post(PATH + ALL, {"ticket": unescape(re.search(r'name="ticket" value="([^"]+)"', shown)[1])})  # no reason
    assert depths == [0, 0]


def test_each_engine_is_bought_once_and_booked(bills, fleet, api):
    assert buy(bills).status_code == 302
    sweep()
    sweep()
    assert sorted(uid for uid, *_ in api.charges) == ["eng_1", "eng_2", "eng_3"]
    assert LedgerEntry.objects.count() == 3
    assert set(Operation.objects.values_list("batch", "state")) == {(Batch.objects.get().pk, "succeeded")}


def test_the_same_form_twice_buys_once(bills, fleet, api):
    shown = page(bills)
    first, second = confirm(bills, shown), confirm(bills, shown)
    sweep()
    assert (first["Location"], len(api.charges)) == (second["Location"], 3)


@pytest.fixture
def other_spelling(bill, acme, api, fleet):
    """A second connection to the same API: each machine is listed twice."""
    connection = Connection.objects.create(team=acme, name="Again", base_url=api.url.replace("127.0.0.1", "localhost"))
    key = key_of(bill, connection)
    return key, [seen(connection, api, f"eng_{number}") for number in (1, 2, 3)]


def test_a_machine_that_two_connections_list_is_bought_once(bills, other_spelling, api):
    shown = page(bills)
    assert "listed by another connection too" in shown
    confirm(bills, shown)
    sweep()
    assert sorted(uid for uid, *_ in api.charges) == ["eng_1", "eng_2", "eng_3"]


def test_while_it_is_bought_at_one_connection_it_is_not_at_the_other(bill, bills_key, fleet, other_spelling, api):
    key, again = other_spelling
    asked = ask(fleet[0], bill, bills_key)
    with pytest.raises(Busy, match="asked by Bill"):
        ask(again[0], bill, key)
    sweep()
    late = ask(again[0], bill, key)  # by a form that was opened before
    sweep()
    assert (fresh(asked).state, fresh(late).extension.outcome) == ("succeeded", "satisfied")
    assert len(api.charges) == 1


def test_a_total_over_the_limit_buys_nothing(bills, fleet, acme):
    each = fleet[0].wire["instance"]["hourly_price"] * CENT * 3
    Limits.objects.create(team=acme, team_day=3 * each - 1)
    shown = page(bills)
    assert "The team may spend" in shown
    assert (confirm(bills, shown).status_code, Operation.objects.count()) == (409, 0)


def test_the_limit_is_checked_again_when_it_is_confirmed(bills, fleet, acme):
    shown = page(bills)
    Limits.objects.create(team=acme, user_day=1)
    assert (confirm(bills, shown).status_code, Operation.objects.count()) == (409, 0)


def test_an_engine_over_its_own_limit_is_left_out(bills, fleet, acme, bill, bills_key, clock):
    ask(fleet[0], bill, bills_key, hours="3")
    sweep()
    clock.advance(seconds=5)
    Limits.objects.create(team=acme, engine_hours=5)
    shown = page(bills)
    assert "may be extended by 5 hours in all" in shown
    confirm(bills, shown)
    assert set(Operation.objects.filter(batch__isnull=False).values_list("engine__uid", flat=True)) == {
        "eng_2",
        "eng_3",
    }


def test_while_spending_is_frozen_nothing_is_bought(bills, fleet, acme, api):
    shown = page(bills)
    Freeze.objects.create(team=acme, at=NOON, by="Ada", reason="budget")
    assert "budget" in page(bills)
    assert confirm(bills, shown).status_code == 409
    sweep()
    assert (api.charges, Operation.objects.count()) == ([], 0)


def test_a_freeze_after_the_confirmation_stops_the_sends(bills, fleet, acme, api):
    buy(bills)
    Freeze.objects.create(team=acme, at=NOON, by="Ada", reason="budget")
    sweep()
    assert api.charges == []


def test_a_price_that_changed_is_shown_and_not_paid(bills, fleet, api, acme_connection, clock):
    shown = page(bills)
    api.engines["eng_2"]["instance"]["hourly_price"] += 50
    clock.advance(seconds=5)
    seen(acme_connection, api, "eng_2")
    answer = confirm(bills, shown)
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    assert "eng_2" in answer.content.decode()


def test_until_a_time_each_engine_gets_what_it_lacks(bills, fleet):
    buy(bills, "?all=1&to=tonight")
    hours = dict(Operation.objects.values_list("engine__uid", "extension__hours"))
    assert {uid: float(number) for uid, number in hours.items()} == {"eng_1": 7.0, "eng_2": 2.0}
    assert [row["uid"] for row in Batch.objects.get().not_asked] == ["eng_3"]  # runs until then anyway


@pytest.fixture
def proposed(bills, fleet, acme):
    """What costs too much together for one person alone, though each would not."""
    each = fleet[0].wire["instance"]["hourly_price"] * CENT * 3
    Limits.objects.create(team=acme, approval_cost=each + 1)
    buy(bills)
    return Batch.objects.get()


def signed_in(client, who):
    client.post("/accounts/login/", {"login": who.email, "password": "correct horse battery"})
    return client


def approve(client, batch):
    url = f"/batches/{batch.pk}/approve/"
    found = re.search(r'name="digest" value="([^"]+)"', client.get(url).content.decode())
    return client.post(url, {"digest": found[1], "reason": "it is for X"}, follow=True)


def test_many_small_ones_are_no_way_around_the_second_person(proposed, api):
    sweep()
    assert (api.charges, Operation.objects.count()) == ([], 0)
    assert Proposal.objects.filter(batch=proposed, state="waiting").count() == 3


def test_each_that_waits_leads_the_second_person_to_all_of_them(proposed, client_of, ada):
    page = client_of(ada).get("/cloud-time/").content.decode()
    assert page.count(f'<a href="/batches/{proposed.pk}/">see all of them, and decide at once</a>') == 3


def test_the_second_person_sees_hours_and_cost_of_each(proposed, client, ada):
    dialog = signed_in(client, ada).get(f"/batches/{proposed.pk}/approve/").content.decode()
    assert dialog.count("3 h for $7.50") == 3


def test_a_second_person_approves_all_of_it_at_once(proposed, client, ada, api):
    approve(signed_in(client, ada), proposed)
    sweep()
    assert len(api.charges) == 3
    assert set(LedgerEntry.objects.values_list("user_name", "approved_name")) == {("Bill", "Ada")}
    assert proposed.operations.count() == 3


def test_what_needs_approval_together_is_asked_only_after_a_recent_proof(fleet, acme, confirmed, bill):
    Limits.objects.create(team=acme, approval_cost=8 * DOLLAR)
    browser = confirmed(bill, ago=601)
    shown = page(browser)
    assert "Confirm that it is you first." in shown
    answer = confirm(browser, shown)
    assert (answer.status_code, Proposal.objects.count(), Batch.objects.count()) == (409, 0, 0)
    assert "the render</textarea>" in answer.content.decode()


def test_what_needs_no_approval_together_is_bought_without(fleet, confirmed, bill):
    assert buy(confirmed(bill, ago=601)).status_code == 302


def approval(batch):
    return {"digest": many.digest(many.waiting(batch, NOON)), "reason": "it is for X"}


def test_who_asked_does_not_approve(proposed, client, bill, api):
    browser = signed_in(client, bill)
    assert "Approve all" not in browser.get(f"/batches/{proposed.pk}/").content.decode()
    browser.post(f"/batches/{proposed.pk}/approve/", approval(proposed))
    sweep()
    assert (api.charges, Operation.objects.count()) == ([], 0)


def test_what_another_page_showed_is_not_approved(proposed, client, ada, api):
    browser = signed_in(client, ada)
    browser.post(f"/batches/{proposed.pk}/approve/", {"digest": "0" * 64, "reason": "it is for X"})
    assert Operation.objects.count() == 0


def test_an_old_sign_in_does_not_approve(proposed, confirmed, ada):
    browser = confirmed(ada, ago=601)
    page = browser.post(f"/batches/{proposed.pk}/approve/", approval(proposed))
    assert (page.status_code, "it is for X</textarea>" in page.content.decode()) == (409, True)
    assert Operation.objects.count() == 0


def stop(client, batch):
    return client.post(f"/batches/{batch.pk}/stop/", {"reason": "the render is off"}, follow=True).content.decode()


def test_the_rest_is_taken_back_and_what_may_be_sent_is_not(bills, fleet, acme, api):
    buy(bills)
    batch = Batch.objects.get()
    for uid, state in (("eng_2", "checking"), ("eng_3", "sending")):
        Operation.objects.filter(engine__uid=uid).update(state=state)
    assert "Stop the rest (2 not sent yet)" in bills.get(f"/batches/{batch.pk}/").content.decode()
    assert "2 that were not sent yet are cancelled" in stop(bills, batch)
    ends = Operation.objects.order_by("engine__uid").values_list("state", "extension__outcome")
    assert list(ends) == [("cancelled", "not_sent")] * 2 + [("sending", "")]
    assert limits.spent(acme, NOON - timedelta(days=1)) == 750 * CENT


def test_what_waits_for_a_second_person_is_stopped_with_the_rest(proposed, client, ada, bills, api):
    assert "3 that were not sent yet are cancelled" in stop(bills, proposed)
    approve(signed_in(client, ada), proposed)
    assert set(Proposal.objects.values_list("state", "decided_reason")) == {("rejected", "the render is off")}
    assert Operation.objects.count() == 0


def test_what_is_approved_while_the_rest_is_stopped_is_stopped_too(proposed, ada, bill, clock, monkeypatch):
    def first_approved(proposal, *args, **more):
        approvals.approve(proposal, proposal.digest, by=Decider(ada, ORIGIN), now=clock.now())
        return reject(proposal, *args, **more)

    reject = approvals.reject
    monkeypatch.setattr("engines.money.approve.reject", first_approved)
    many.take_back(proposed, by=Decider(bill, ORIGIN), now=clock.now())
    assert list(Operation.objects.values_list("state", flat=True)) == ["cancelled"] * 3


def test_an_operator_stops_no_purchases(proposed, client_of, olga):
    assert client_of(olga).post(f"/batches/{proposed.pk}/stop/").status_code == 403
    assert Proposal.objects.filter(state="waiting").count() == 3


def test_what_was_not_approved_in_time_is_said_to_be_over(proposed, client, ada, clock):
    clock.advance(minutes=31)
    shown = " ".join(signed_in(client, ada).get(f"/batches/{proposed.pk}/").content.decode().split())
    assert "Approve all" not in shown
    assert "3 were not approved within 30 minutes" in shown
    assert "Stop the rest" not in shown


def test_only_what_was_certainly_not_charged_is_tried_again(bills, fleet, api):
    buy(bills)
    batch = Batch.objects.get()
    rows = Operation.objects.filter(batch=batch)
    rows.update(state="failed", next_at=None)
    for operation, outcome in zip(
        rows.order_by("engine__uid"), ["not_sent", "resolved_applied", "ambiguous"], strict=True
    ):
        type(operation.extension).objects.filter(pk=operation.pk).update(outcome=outcome)
    shown = page(bills, f"?retry={batch.pk}&hours=3")
    assert re.search(r"1\s+will be asked", shown)
    confirm(bills, shown, f"?retry={batch.pk}&hours=3")
    again = Operation.objects.get(batch__retry_of=batch)
    assert again.extension.retry_of.operation.engine.uid == again.engine.uid == "eng_1"
    sweep()
    assert fresh(again).state == "succeeded"
    assert "failed again" not in bills.get(f"/batches/{batch.pk}/").content.decode()
    assert "will be asked" not in page(bills, f"?retry={batch.pk}&hours=3")


def test_an_operator_may_not_buy_for_many(client_of, olga, fleet):
    assert client_of(olga).get(PATH + ALL).status_code == 403


def test_a_batch_over_the_most_is_cut_to_it(bills, fleet, monkeypatch):
    monkeypatch.setattr("engines.operations.extend.Extend.most", 2)
    assert "these are the first 2" in page(bills)
