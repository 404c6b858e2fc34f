"""The pages of a new machine: what they show is what is ordered, once, by who was shown it."""

import html
import re
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlencode

import pytest
import time_machine
from django.core import signing
from django.utils import timezone

from engines.controlplane import keys
from engines.controlplane.providers.base import Unclear
from engines.models import Operation
from engines.money.approve import approve
from engines.money.buy import OrderedAgain
from engines.money.models import MAY_TRY_AGAIN, Extension, Freeze, Limits, Outcome, Proposal
from engines.money.order import SALT
from engines.operations.moves import Decider
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from portal.vault.models import StoredKey
from tests.controlplane.cloud import TYPES

TYPES_URL, URL = "/engines/new/cloud/", "/engines/new/cloud/order/"
A100 = {
    "cloud": "shade",
    "shade_instance_type": "A100x2",
    "hourly_price": 350,
    "configuration": {"gpu_type": "A100", "num_gpus": 2, "vram_per_gpu_in_gb": 80, "memory_in_gb": 400, "vcpus": 32},
    "availability": [
        {"available": True, "region": "oslo"},
        {"available": True, "region": "oslo", "rental_type": "spot", "hourly_price": 90},
        {"available": False, "region": "rome"},
    ],
}


@pytest.fixture(autouse=True)
def offered(cloud, funds, monkeypatch):
    funds(100)
    listed = [*TYPES, A100]
    monkeypatch.setattr("engines.controlplane.clouds.types", lambda cloud="": listed)
    return listed


def words(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.content.decode())).split())


def rows(page):
    return [(one["offer"].instance_type, one["offer"].region, one["offer"].price) for one in page.context["offers"]]


OFFER = "local/cpu-2/here/on_demand"


def cost(browser, offer=OFFER, name="burst", hours="3"):
    return browser.get(f"{URL}?{urlencode({'offer': offer, 'name': name, 'hours': hours})}")


def form_of(page, **changes):
    signed = html.unescape(re.search(r'name="order" value="([^"]+)"', page.content.decode())[1])
    return {"order": signed, "reason": "more room", "connection": page.context["connection"].pk, **changes}


def test_it_lists_what_can_be_rented_where_and_for_how_much(browser):
    page = browser.get(TYPES_URL)
    assert rows(page) == [
        ("A100x2", "oslo", 90),
        ("cpu-2", "here", 120),
        ("A100x2", "oslo", 350),
        ("cpu-2", "there", 120),
        ("A100x2", "rome", 350),
    ]
    for part in (
        "2 × A100",
        "2 × 80 GB",
        "400 GB",
        "32 vCPUs",
        "$3.50",
        "spot: may be taken away",
        "Not available now",
    ):
        assert part in words(page)


@pytest.mark.parametrize(
    ("query", "first", "number"),
    [
        ("?gpu=A100", ("A100x2", "oslo", 90), 3),
        ("?where=local/there", ("cpu-2", "there", 120), 1),
        ("?available=1", ("A100x2", "oslo", 90), 3),
        ("?sort=-price", ("A100x2", "oslo", 350), 5),
        ("?sort=region", ("cpu-2", "here", 120), 5),
        ("?sort=nonsense&gpu=", ("A100x2", "oslo", 90), 5),
    ],
)
def test_the_list_is_filtered_and_sorted_by_the_address(browser, query, first, number):
    shown = rows(browser.get(f"{TYPES_URL}{query}"))
    assert (shown[0], len(shown)) == (first, number)


def test_a_filter_that_nothing_matches_can_be_cleared(browser):
    assert "No machine matches" in words(browser.get(f"{TYPES_URL}?gpu=H200"))


def test_an_api_that_rents_nothing_is_said_to(browser, offered):
    offered.clear()
    assert "Nothing can be rented here" in words(browser.get(TYPES_URL))


def test_clouds_that_do_not_answer_are_said_to(browser, monkeypatch):
    def away(cloud=""):
        raise Unclear("no answer")

    monkeypatch.setattr("engines.controlplane.clouds.types", away)
    assert "What can be rented is not known now." in words(browser.get(TYPES_URL))


@pytest.mark.parametrize(
    "odd",
    [
        {"hourly_price": "350"},
        {"hourly_price": -1},
        {"availability": None},
        {"availability": [None, {}, {"region": 3}]},
        {"configuration": "big"},
        {"shade_instance_type": None},
    ],
)
def test_an_odd_machine_hides_no_other(browser, offered, odd):
    offered[1] = A100 | odd
    assert ("cpu-2", "here", 120) in rows(browser.get(TYPES_URL))


def test_without_a_key_it_says_so(browser):
    StoredKey.objects.all().delete()
    assert "You have no key for this API yet" in words(browser.get(TYPES_URL))
    assert browser.get(URL)["Location"] == TYPES_URL


def test_the_machine_is_asked_for_name_and_hours_first(browser):
    page = browser.get(f"{URL}?offer=local/cpu-2/here/on_demand")
    assert 'name="hours"' in page.content.decode()
    assert 'name="order"' not in page.content.decode()


def test_it_shows_cost_balance_and_limits_before_anything_is_ordered(browser):
    shown = words(cost(browser))
    for part in ("3 h at $1.20 an hour", "Cost $3.60", "$100.00 now, $96.40 then", "$500.00, 168 h", "Order for $3.60"):
        assert part in shown
    assert Operation.objects.count() == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"hours": "0.5"}, "greater than or equal to 1"),
        ({"hours": "721"}, "less than or equal to 720"),
        ({"hours": "1.234"}, "no more than 2 decimal places"),
        ({"hours": "NaN"}, "Enter a number"),
        ({"name": "x" * 81}, "At most 80 characters"),
        ({"name": ""}, "This field is required"),
    ],
)
def test_what_cannot_be_ordered_is_said_beside_its_field(browser, changes, complaint):
    assert complaint in words(cost(browser, **changes))


@pytest.mark.parametrize("offer", ["local/cpu-2/there/on_demand", "x", ""])
def test_what_is_not_on_offer_leads_back_to_the_list(browser, offer):
    assert cost(browser, offer=offer)["Location"].startswith(TYPES_URL)


def test_confirmed_it_is_an_operation_with_what_was_shown(browser):
    page = cost(browser)
    answer = browser.post(URL, form_of(page))
    operation = Operation.objects.get()
    assert answer["Location"] == f"/operations/{operation.pk}/"
    assert (operation.verb, operation.reason, operation.engine) == ("create", "more room", None)
    assert operation.extension.cost == 360_000_000
    assert operation.engine_name == page.context["order"].name


def test_confirmed_twice_it_is_one_operation(browser):
    form = form_of(cost(browser))
    assert browser.post(URL, form)["Location"] == browser.post(URL, form)["Location"]
    assert Operation.objects.count() == 1


def test_the_same_form_with_other_words_is_refused(browser):
    form = form_of(cost(browser))
    browser.post(URL, form)
    answer = browser.post(URL, form | {"reason": "something else"})
    assert (answer.status_code, answer.context["sent_before"]) == (422, f"/operations/{Operation.objects.get().pk}/")
    assert 'type="submit" class="btn btn-primary"' not in answer.content.decode()
    assert Operation.objects.count() == 1


def test_an_altered_form_orders_nothing_and_is_recorded(browser):
    form = form_of(cost(browser))
    answer = browser.post(URL, form | {"order": form["order"][:-1]})
    assert answer["Location"].startswith(TYPES_URL)
    assert (Operation.objects.count(), Entry.objects.filter(action="cloudtime.refused").count()) == (0, 1)


def test_a_form_of_a_quarter_of_an_hour_ago_orders_nothing(browser):
    form = form_of(cost(browser))
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        browser.post(URL, form)
    assert Operation.objects.count() == 0


def test_a_form_of_a_quarter_of_an_hour_ago_leads_to_what_it_ordered(browser):
    form = form_of(cost(browser))
    browser.post(URL, form)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        again = browser.post(URL, form)
    assert again["Location"] == f"/operations/{Operation.objects.get().pk}/"


def test_a_form_of_the_version_before_leads_to_what_it_ordered(browser):
    form = form_of(cost(browser))
    browser.post(URL, form)
    id, about, parameters, number = signing.loads(form["order"], salt=SALT)
    before = signing.dumps([id, about, parameters, number], salt=SALT)
    assert browser.post(URL, form | {"order": before})["Location"] == f"/operations/{Operation.objects.get().pk}/"


def test_a_form_that_was_approved_and_is_sent_again_sends_nobody_for_approval(browser, acme, bill):
    Limits.objects.create(team=acme, approval_cost=1)
    form = form_of(cost(browser))
    asked = words(browser.post(URL, form, follow=True))
    proposal = Proposal.objects.get()
    approve(proposal, proposal.digest, by=Decider(bill, Origin(), "yes"), now=timezone.now())
    again = words(browser.post(URL, form, follow=True))
    assert ("needs a second person" in asked, "needs a second person" in again) == (True, False)
    assert "This form was sent before: this is what became of it." in again


def test_one_that_asked_for_approval_too_long_ago_says_that_nothing_was_bought(browser, acme):
    Limits.objects.create(team=acme, approval_cost=1)
    form = form_of(cost(browser))
    browser.post(URL, form)
    Proposal.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    again = browser.post(URL, form, follow=True)
    assert "It was not approved within 30 minutes. Ask again. Nothing was bought." in words(again)
    assert Operation.objects.count() == 0


def test_a_form_of_somebody_else_orders_nothing(browser, client_of, acme, bill, connection, caller):
    form = form_of(cost(browser))
    bill.memberships.update(role="admin")
    store(user=bill, connection=connection, secret=Secret(caller.key), label="Bill's", scopes=["*"])
    client_of(bill).post(URL, form)
    assert Operation.objects.count() == 0


def test_without_a_reason_nothing_is_ordered(browser):
    page = browser.post(URL, form_of(cost(browser), reason=""))
    assert page.status_code == 422
    assert "This field is required" in words(page)


def test_over_a_limit_the_page_says_so_and_orders_nothing(browser, acme):
    form = form_of(cost(browser))
    Limits.objects.create(team=acme, operation_hours=Decimal(2))
    assert "At most 2 hours can be bought at once" in words(cost(browser))
    assert browser.post(URL, form).status_code == 409
    assert Operation.objects.count() == 0


def test_back_from_a_refused_order_all_that_was_typed_is_there(browser, acme):
    form = form_of(cost(browser, name="render <1>", hours="3.5"), reason="client X & Y")
    Limits.objects.create(team=acme, operation_hours=Decimal(2))
    refused = browser.post(URL, form)
    assert refused.status_code == 409
    changing = browser.get(html.unescape(re.search(r'class="btn" href="([^"]+)">Back', refused.content.decode())[1]))
    shown = changing.content.decode()
    said = dict(re.findall(r'<input type="\w+" name="(\w+)" value="([^"]*)"', shown))
    asked = {name: html.unescape(value) for name, value in said.items() if name != "csrfmiddlewaretoken"}
    assert (asked["name"], asked["hours"], asked["number"]) == ("render <1>", "3.50", "1")
    page = browser.get(URL, asked | {"hours": "2"})
    assert (page.context["order"].given_name, page.context["order"].hours) == ("render <1>", 2)
    assert "client X &amp; Y</textarea>" in page.content.decode()


def test_back_from_an_order_that_is_tried_again_it_stays_linked(browser, acme):
    browser.post(URL, form_of(cost(browser)))
    first = ended()
    page = browser.get(again(browser, first))
    Freeze.objects.create(team=acme, at=timezone.now(), by="Bill", reason="audit")
    assert f"retry_of={first.pk}" in browser.post(URL, form_of(page)).context["back"]


def test_frozen_it_says_so(browser, acme):
    form = form_of(cost(browser))
    Freeze.objects.create(team=acme, at=timezone.now(), by="Bill", reason="audit")
    assert "Spending is frozen" in words(cost(browser))
    assert browser.post(URL, form).status_code == 409


def test_a_key_that_may_not_order_is_said_to(browser, connection, ada, team):
    reader = keys.issue(team, "reader", ["engines:read"])[1]
    store(user=ada, connection=connection, secret=Secret(reader), label="reader", scopes=["engines:read"])
    assert "lacks the scope engines:write" in words(cost(browser))


def test_a_balance_that_is_too_small_is_said_before(browser):
    assert "The balance is too small" in words(cost(browser, hours="100"))


def test_above_the_limit_it_waits_for_somebody_else(browser, client_of, bill, acme):
    Limits.objects.create(team=acme, approval_cost=1)
    page = cost(browser)
    assert "Ask for approval of $3.60" in words(page)
    assert browser.post(URL, form_of(page))["Location"] == "/cloud-time/"
    assert (Operation.objects.count(), Proposal.objects.count()) == (0, 1)
    shown = words(client_of(bill).get("/cloud-time/"))
    assert f"A new machine, {page.context['order'].name} : 2 vCPUs in local/here, for 3 h." in shown


@pytest.mark.parametrize("state", ["waiting", "rejected"])
def test_what_waited_for_somebody_else_is_not_ordered_by_its_form_alone_once_the_limit_is_higher(browser, acme, state):
    Limits.objects.create(team=acme, approval_cost=1)
    form = form_of(cost(browser))
    browser.post(URL, form)
    Proposal.objects.update(state=state)
    Limits.objects.update(approval_cost=10**11)
    assert browser.post(URL, form)["Location"] == "/cloud-time/"
    assert (Operation.objects.count(), Proposal.objects.count()) == (0, 1)


def test_the_same_form_after_the_approval_leads_to_the_order(browser, acme, bill):
    Limits.objects.create(team=acme, approval_cost=1)
    form = form_of(cost(browser))
    browser.post(URL, form)
    proposal = Proposal.objects.get()
    approve(proposal, proposal.digest, by=Decider(bill, Origin(), "go"), now=timezone.now())
    assert browser.post(URL, form)["Location"] == f"/operations/{proposal.pk}/"
    assert Operation.objects.count() == 1


def ended(outcome="not_sent", state="cancelled"):
    found = Operation.objects.get()
    Operation.objects.filter(pk=found.pk).update(state=state, next_at=None, finished_at=timezone.now())
    Extension.objects.filter(pk=found.pk).update(outcome=outcome)
    return found


def again(browser, found):
    link = re.search(r'href="([^"]+retry_of=[^"]+)"', browser.get(f"/operations/{found.pk}/").content.decode())
    return html.unescape(link[1]) if link else ""


@pytest.mark.parametrize("outcome", sorted(MAY_TRY_AGAIN))
def test_what_was_certainly_not_charged_is_ordered_again_as_it_was(browser, outcome):
    browser.post(URL, form_of(cost(browser, name="burst-in-oslo")))
    first = ended(outcome)
    page = browser.get(again(browser, first))
    order = page.context["order"]
    assert (order.given_name, order.hours, order.offer) == ("burst-in-oslo", 3, "local/cpu-2/here/on_demand")
    assert "more room</textarea>" in page.content.decode()
    assert order.name != first.engine_name
    browser.post(URL, form_of(page))
    second = Operation.objects.exclude(pk=first.pk).get()
    assert (second.retry_of, second.extension.retry_of.pk) == (first, first.pk)
    assert str(first.pk) in browser.get(f"/operations/{second.pk}/").content.decode()
    assert str(second.pk) in browser.get(f"/operations/{first.pk}/").content.decode()


@pytest.mark.parametrize("outcome", sorted({*Outcome.values, ""} - MAY_TRY_AGAIN))
def test_what_may_have_been_charged_is_not(browser, outcome):
    browser.post(URL, form_of(cost(browser)))
    first = ended(outcome, "failed")
    assert again(browser, first) == ""
    page = browser.get(f"{URL}?{urlencode({'offer': OFFER, 'name': 'burst', 'hours': 3, 'retry_of': first.pk})}")
    assert page.context["order"].retry_of == ""


def test_nor_is_what_is_open(browser):
    browser.post(URL, form_of(cost(browser)))
    assert again(browser, ended("refused", "unknown")) == ""


def test_billing_is_told_that_it_orders_no_machines(browser, client_of, bill):
    browser.post(URL, form_of(cost(browser)))
    shown = client_of(bill).get(f"/operations/{ended().pk}/")
    assert "Order again Your role (Billing) may not do this." in words(shown)


def test_what_is_ordered_again_with_another_name_stays_linked(browser):
    browser.post(URL, form_of(cost(browser)))
    first = ended()
    shown = browser.get(again(browser, first).replace("name=burst&", "")).content.decode()
    assert f'name="retry_of" value="{first.pk}"' in shown


def test_what_a_second_person_approves_stays_linked(browser, acme, bill):
    browser.post(URL, form_of(cost(browser)))
    first = ended()
    Limits.objects.create(team=acme, approval_cost=1)
    browser.post(URL, form_of(browser.get(again(browser, first))))
    proposal = Proposal.objects.get()
    made = approve(proposal, proposal.digest, by=Decider(bill, Origin(), "go"), now=timezone.now())
    assert made.retry_of == first


def test_an_order_on_its_way_is_in_the_list_of_operations(browser):
    browser.post(URL, form_of(cost(browser)))
    assert "Create burst-" in words(browser.get("/operations/"))
    assert "Create burst-" in words(browser.get(f"/operations/{Operation.objects.get().pk}/"))


def test_an_old_sign_in_is_confirmed_before_money_is_spent(confirmed, ada, browser):
    old = confirmed(ada, ago=601)
    form = form_of(cost(old))
    answer = old.post(URL, form)
    assert (answer.status_code, Operation.objects.count()) == (409, 0)
    assert "Nothing was done: confirm that it is you first." in words(answer)
    assert "more room" in words(answer)
    assert browser.post(URL, form).status_code == 302
    assert Operation.objects.count() == 1


def test_of_two_tabs_that_order_it_again_one_does(browser):
    browser.post(URL, form_of(cost(browser)))
    first = ended()
    one, other = (form_of(browser.get(again(browser, first))) for _ in range(2))
    browser.post(URL, one)
    answer = browser.post(URL, other)
    assert (answer.status_code, Operation.objects.filter(retry_of=first).count()) == (409, 1)
    assert "It was ordered again already, by Ada: Create burst-" in words(answer)


def test_what_was_ordered_again_leads_to_that_order(browser):
    browser.post(URL, form_of(cost(browser)))
    first = ended()
    link = again(browser, first)
    browser.post(URL, form_of(browser.get(link)))
    assert again(browser, first) == ""
    assert browser.get(link)["Location"] == f"/operations/{Operation.objects.get(retry_of=first).pk}/"


def test_of_two_approvals_to_order_it_again_one_is_carried_out(browser, acme, bill):
    browser.post(URL, form_of(cost(browser)))
    link = again(browser, first := ended())
    Limits.objects.create(team=acme, approval_cost=1)
    for form in [form_of(browser.get(link)) for _ in range(2)]:
        browser.post(URL, form)
    one, other = Proposal.objects.all()
    by = Decider(bill, Origin(), "go")
    approve(one, one.digest, by=by, now=timezone.now())
    with pytest.raises(OrderedAgain):
        approve(other, other.digest, by=by, now=timezone.now())
    assert (Operation.objects.filter(retry_of=first).count(), fresh(other).state) == (1, "waiting")


def fresh(row):
    row.refresh_from_db()
    return row
