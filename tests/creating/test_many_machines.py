"""Several machines of a kind are one decision and one sum; each is an order of its own, and sent once."""

import html
import re

import pytest

from engines.bulk import outcomes
from engines.controlplane.models import Engine as TheirEngine
from engines.enums import Verb
from engines.models import Batch, Operation
from engines.money import limits, many
from engines.money.models import Extension, Freeze, Limits, Proposal
from engines.money.reconcile import own_word
from engines.operations.moves import Decider
from portal import clock as clocks
from portal.audit.models import Entry
from tests.creating.test_machine import ORIGIN, clock, now, sweep  # noqa: F401 (fixtures)
from tests.creating.test_machine_pages import URL, form_of, words

EACH = 360_000_000  # microcents, for 3 hours at 120 cents
ON_ITS_WAY = pytest.mark.uncounted("the machines have yet to come")


def cost(browser, number=3, **asked):
    asked = {"offer": "local/cpu-2/here/on_demand", "name": "burst", "hours": "3", "number": number, **asked}
    return browser.get(URL, asked)


def order(browser, number=3, **words):
    return browser.post(URL, form_of(cost(browser, number), **words))


def names():
    return sorted(Operation.objects.values_list("engine_name", flat=True))


def test_names_total_and_balance_are_shown_first(browser):
    shown = words(cost(browser))
    assert re.search(
        r"How many 3 burst-1-\w{6}, burst-2-\w{6}, burst-3-\w{6} Paid for 3 h at \$1.20 an hour each", shown
    )
    assert "Cost $10.80 $3.60 each" in shown
    assert "Balance $100.00 now, $89.20 then" in shown
    assert "Order for $10.80" in shown


def test_each_is_an_order_of_its_own_in_one_batch_with_the_names_that_were_shown(browser, ada):
    page = cost(browser)
    answer = browser.post(URL, form_of(page))
    batch = Batch.objects.get()
    assert answer["Location"] == f"/batches/{batch.pk}/"
    assert (batch.verb, batch.reason, batch.requested_by) == (Verb.CREATE, "more room", ada)
    assert all(name in words(page) for name in names())
    rows = Operation.objects.filter(batch=batch, state="requested", extension__cost=EACH)
    assert rows.count() == len({row.parameters["name"] for row in rows}) == 3


def test_the_page_of_the_batch_has_each(browser):
    order(browser)
    shown = words(browser.get(f"/batches/{Batch.objects.get().pk}/"))
    assert all(name in shown for name in names())
    assert "Order of many machines" in shown
    assert "Stop the rest (3 not sent yet)" in shown


def test_one_alone_is_no_batch(browser):
    assert order(browser, number=1)["Location"] == f"/operations/{Operation.objects.get().pk}/"
    assert Batch.objects.count() == 0


@pytest.mark.parametrize("number", ["0", "21", "-1", "2.5", "many"])
def test_so_many_are_not_ordered(browser, number):
    page = cost(browser, number)
    assert 'name="order"' not in page.content.decode()
    assert 'class="field-error"' in page.content.decode()


def test_the_same_form_twice_is_one_batch(browser):
    form = form_of(cost(browser))
    first, second = (browser.post(URL, form) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert (Batch.objects.count(), Operation.objects.count()) == (1, 3)


def test_the_same_form_with_other_words_is_refused(browser):
    page = cost(browser)
    browser.post(URL, form_of(page))
    answer = browser.post(URL, form_of(page, reason="something else"))
    assert (answer.status_code, Operation.objects.count()) == (422, 3)
    assert "sent before with other words" in words(answer)


@pytest.mark.parametrize("limit", ["operation_cost", "user_day", "team_day", "team_month"])
def test_the_limits_hold_for_the_sum(browser, acme, limit):
    page = cost(browser)
    Limits.objects.create(team=acme, **{limit: 3 * EACH - 1})
    answer = browser.post(URL, form_of(page))
    assert (answer.status_code, Operation.objects.count(), Batch.objects.count()) == (409, 0, 0)
    assert "This costs $10.80." in words(answer)
    assert "This costs $10.80." in words(cost(browser))
    assert order(browser, number=2).status_code == 302


def test_while_spending_is_frozen_none_is_ordered(browser, acme):
    page = cost(browser)
    Freeze.objects.create(team=acme, at=clocks.now(), by="Bill", reason="audit")
    assert browser.post(URL, form_of(page)).status_code == 409
    assert Operation.objects.count() == 0


def test_it_is_all_or_none(browser, monkeypatch):
    def rent(wanted, *asked, **words):
        if Operation.objects.exists():
            raise limits.OverLimit("Too much.")
        return real(wanted, *asked, **words)

    real = many.rent
    monkeypatch.setattr(many, "rent", rent)
    assert order(browser).status_code == 409
    assert (Operation.objects.count(), Batch.objects.count()) == (0, 0)


@pytest.fixture
def proposed(browser, acme):
    """What costs too much together for one person alone, though each would not."""
    Limits.objects.create(team=acme, approval_cost=3 * EACH - 1)
    assert "Ask for approval of $10.80" in words(cost(browser))
    order(browser)
    return Batch.objects.get()


def test_many_small_ones_are_no_way_around_the_second_person(proposed, wire):
    sweep()
    assert (wire.orders, Operation.objects.count()) == (0, 0)
    assert Proposal.objects.filter(batch=proposed, state="waiting").count() == 3


def test_a_second_person_sees_and_approves_all_of_it_at_once(proposed, client_of, bill):
    bills, waiting = client_of(bill), many.waiting(proposed, clocks.now())
    shown = bills.get(f"/batches/{proposed.pk}/")
    assert all(each.engine_name in words(shown) for each in waiting)
    assert "Approve all 3 for $10.80" in words(shown)
    asked = bills.get(f"/batches/{proposed.pk}/approve/").content.decode()
    digest = re.search(r'name="digest" value="([^"]+)"', asked)[1]
    bills.post(f"/batches/{proposed.pk}/approve/", {"digest": digest, "reason": "planned"})
    rows = Operation.objects.filter(batch=proposed, extension__approved_name="Bill")
    assert sorted(row.engine_name for row in rows) == [each.engine_name for each in waiting]


def test_a_second_click_of_the_approval_does_not_say_that_nothing_was_bought(proposed, client_of, bill):
    bills, url = client_of(bill), f"/batches/{proposed.pk}/approve/"
    digest = re.search(r'name="digest" value="([^"]+)"', bills.get(url).content.decode())[1]
    for said in ("3 of 3 are approved", "None of it waits for a second person any more"):
        shown = words(bills.post(url, {"digest": digest, "reason": "planned"}, follow=True))
        assert said in shown
        assert "Nothing was bought" not in shown
    assert Operation.objects.count() == 3


def test_one_that_is_refused_at_the_approval_is_named(proposed, acme, bill):
    waiting = many.waiting(proposed, clocks.now())
    Limits.objects.filter(team=acme).update(team_day=2 * EACH)
    lost = many.approve_all(waiting, many.digest(waiting), by=Decider(bill, ORIGIN), now=clocks.now())
    assert [name for name, _ in lost] == [waiting[-1].engine_name]
    assert Operation.objects.filter(batch=proposed).count() == 2


def test_what_waits_for_a_second_person_is_stopped_with_the_rest(proposed, browser):
    browser.post(f"/batches/{proposed.pk}/stop/", {"reason": "not now"})
    assert set(Proposal.objects.values_list("state", flat=True)) == {"rejected"}


def test_the_rest_is_taken_back_before_it_is_sent(browser, wire, acme):
    order(browser)
    browser.post(f"/batches/{Batch.objects.get().pk}/stop/", {"reason": "not now"})
    sweep()
    assert (wire.orders, limits.spent(acme, clocks.now())) == (0, 0)
    assert set(Operation.objects.values_list("state", flat=True)) == {"cancelled"}


@ON_ITS_WAY
def test_each_is_sent_once_under_an_id_of_its_own(browser, wire):
    order(browser)
    for _ in range(3):
        sweep()
    assert wire.orders == 3
    assert set(Operation.objects.values_list("state", flat=True)) == {"working"}
    assert sorted(TheirEngine.objects.values_list("name", flat=True)) == names()


@ON_ITS_WAY
def test_one_without_an_answer_is_not_sent_again_and_counts_as_spent(browser, wire, acme):
    wire.faults = [500]
    order(browser)
    for _ in range(3):
        sweep()
    assert wire.orders == 3
    states = list(Operation.objects.values_list("state", flat=True))
    assert sorted(states) == ["unknown", "working", "working"]
    assert limits.spent(acme, clocks.now()) == 3 * EACH


def failing(browser, *names, state="failed", outcome="not_sent"):
    """Order three; of those named, say how they ended."""
    order(browser)
    batch = Batch.objects.get()
    rows = Operation.objects.filter(batch=batch)
    for name in names:
        one = rows.get(engine_name__startswith=f"{name}-")
        Operation.objects.filter(pk=one.pk).update(state=state, next_at=None)
        Extension.objects.filter(pk=one.pk).update(outcome=outcome)
    return batch


def again(browser, batch):
    page = browser.get(f"/batches/{batch.pk}/").content.decode()
    link = re.search(r'href="([^"]+)">(?:<svg.*?</svg>)?Try the \d that failed again', page)
    return html.unescape(link[1]) if link else ""


@pytest.mark.parametrize("outcome", ["", "ambiguous", "unused", "resolved_applied"])
def test_what_may_have_been_charged_is_not_offered_for_another_try(browser, outcome):
    assert again(browser, failing(browser, "burst-1", outcome=outcome)) == ""


@pytest.mark.parametrize("state", ["unknown", "needs_attention", "working"])
def test_nor_is_what_is_open(browser, state):
    assert again(browser, failing(browser, "burst-1", state=state)) == ""


def test_those_that_failed_are_ordered_again_as_they_were_and_each_is_linked(browser):
    first = failing(browser, "burst-1", "burst-3")
    page = browser.get(again(browser, first))
    assert (page.context["orders"].number, page.context["order"].hours) == (2, 3)
    assert "more room</textarea>" in page.content.decode()
    browser.post(URL, form_of(page))
    second = Batch.objects.get(retry_of=first)
    linked = second.operations.values_list("engine_name", "retry_of__engine_name", "extension__retry_of")
    pairs = sorted((name[:7], earlier[:7]) for name, earlier, _ in linked)
    assert pairs == [("burst-1", "burst-1"), ("burst-2", "burst-3")]
    assert {pk for *_, pk in linked} == set(first.operations.filter(state="failed").values_list("pk", flat=True))
    assert f"/batches/{second.pk}/" in browser.get(f"/batches/{first.pk}/").content.decode()


def test_one_that_failed_is_ordered_again_as_one(browser):
    first = failing(browser, "burst-2")
    browser.post(URL, form_of(browser.get(again(browser, first))))
    made = Operation.objects.get(batch=None)
    assert (made.retry_of.batch, made.engine_name[:8]) == (first, "burst-2-")


def test_what_failed_is_ordered_again_once(browser):
    first = failing(browser, "burst-1", "burst-2")
    link = again(browser, first)
    one, other = (form_of(browser.get(link)) for _ in range(2))
    browser.post(URL, one)
    answer = browser.post(URL, other)
    assert answer.status_code == 409
    assert "It was ordered again already, by Ada: Create burst-" in words(answer)
    assert (Batch.objects.count(), Operation.objects.count()) == (2, 5)
    assert again(browser, first) == ""
    assert browser.get(link)["Location"].startswith("/operations/")


def test_of_two_approvals_to_order_them_again_one_is_carried_out(browser, acme, bill):
    first = failing(browser, "burst-1", "burst-2")
    Limits.objects.create(team=acme, approval_cost=1)
    for form in [form_of(browser.get(again(browser, first))) for _ in range(2)]:
        browser.post(URL, form)
    lost = []
    for batch in Batch.objects.filter(retry_of=first):
        waiting = many.waiting(batch, clocks.now())
        lost.append(many.approve_all(waiting, many.digest(waiting), by=Decider(bill, ORIGIN), now=clocks.now()))
    assert [len(each) for each in lost] == [0, 2]
    assert Operation.objects.filter(retry_of__batch=first).count() == 2


def test_more_or_fewer_machines_are_no_other_try_of_those_that_failed(browser):
    first = failing(browser, "burst-1", "burst-2")
    page = browser.get(again(browser, first).replace("number=2", "number=3"))
    browser.post(URL, form_of(page))
    assert not Operation.objects.exclude(retry_of=None).exists()


def test_back_from_a_refused_order_of_several_it_is_about_those_that_failed(browser, acme):
    page = browser.get(again(browser, failing(browser, "burst-1", "burst-2")))
    Freeze.objects.create(team=acme, at=clocks.now(), by="Bill", reason="audit")
    changing = browser.get(browser.post(URL, form_of(page)).context["back"])
    assert changing.content.decode().count('name="retry_of"') == 2
    assert 'name="number" value="2"' in changing.content.decode()


def test_what_was_taken_back_by_a_person_is_not_offered_for_another_try(browser):
    order(browser)
    batch = Batch.objects.get()
    browser.post(f"/batches/{batch.pk}/stop/", {"reason": "not needed"})
    assert outcomes(batch) == {"cancelled": 3}
    assert again(browser, batch) == ""


def test_what_a_limit_stopped_is(browser, wire, acme):
    order(browser)
    Limits.objects.create(team=acme, operation_hours=1)
    for _ in range(3):
        sweep()
    batch = Batch.objects.get()
    assert outcomes(batch) == {"cancelled": 3}
    Limits.objects.all().delete()
    assert browser.get(again(browser, batch)).context["orders"].number == 3


def test_the_log_has_the_batch_and_each_order(browser):
    order(browser)
    batch = Entry.objects.get(action="batch.create")
    assert (batch.detail["asked"], batch.detail["cost"], batch.reason) == (3, "$10.80", "more room")
    assert Entry.objects.filter(action="engine.create").count() == 3


def test_what_became_of_one_of_many_that_were_approved_is_for_somebody_else_to_say(proposed, ada, bill):
    waiting = many.waiting(proposed, clocks.now())
    many.approve_all(waiting, many.digest(waiting), by=Decider(bill, ORIGIN), now=clocks.now())
    one = Operation.objects.filter(batch=proposed).first()
    assert "somebody else must say" in own_word(one, ada)
    assert own_word(one, bill) == ""
