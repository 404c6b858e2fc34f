"""E6-E9, E31, E32, E36: several people, one budget, and a second person's word."""

import base64
import io
import json
import re
import threading
from copy import copy
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
import redis
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Count

from engines import snapshots
from engines.models import Engine, LedgerEntry, Operation
from engines.money import approve, limits, reconcile
from engines.money.models import Limits, Proposal
from engines.operations.moves import Decider
from engines.operations.request import Busy
from engines.operations.send import send as wake
from engines.tasks import wake as wake_task
from portal import rates
from portal.accounts.models import Membership, User
from portal.accounts.roles import Role
from portal.audit.models import Entry
from portal.celery import app
from portal.vault.models import StoredKey
from portal.wake import breaker
from tests.conftest import member
from tests.live.broker import running
from tests.money.conftest import NOON, ORIGIN, ask, fresh, quote, seen, sweep

pytestmark = pytest.mark.django_db(transaction=True)
DOLLAR = 10**8


@pytest.fixture
def second(acme_connection, api, clock, engine):
    api.add("eng_2", NOON + timedelta(hours=5))
    return seen(acme_connection, api, "eng_2")


@pytest.fixture
def fleet(acme_connection, api, engine):
    """Adds so many engines, each paid for five hours more."""

    def add(size):
        for number in range(size):
            api.add(f"eng_x{number}", NOON + timedelta(hours=5))
        added = [each for uid, each in api.engines.items() if uid.startswith("eng_x")]
        snapshots.apply(acme_connection, added, read_at=NOON)
        return list(Engine.objects.filter(uid__startswith="eng_x"))

    return add


def at_once(*jobs):
    """Run the jobs in threads that begin together; return what each returned or raised."""
    return list(race(*([job] for job in jobs))[0])


def race(*sides):
    """Run each side's jobs in a thread of its own, each one together with the others'; return what each came to."""
    barrier, ends = threading.Barrier(len(sides)), [[] for _ in sides]

    def run(found, jobs):
        for job in jobs:
            barrier.wait()
            try:
                found.append(job())
            except Exception as error:
                found.append(error)
        connection.close()

    threads = [threading.Thread(target=run, args=item) for item in zip(ends, sides, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return list(zip(*ends, strict=True))


def test_e6_two_people_want_the_same_and_one_of_them_has_it_each_of_two_hundred_times(
    api, bill, ada, bills_key, adas_key, fleet, acme
):
    engines = fleet(200)  # the model has every order of events; these are for the database
    bills, adas = (
        [partial(ask, engine, *who, quote=quote(engine, "0.25")) for engine in engines]
        for who in ((bill, bills_key), (ada, adas_key))
    )
    for ends in race(bills, adas):
        assert sorted(type(end).__name__ for end in ends) == ["Busy", "Operation"]
    Operation.objects.exclude(engine__in=engines[:50]).delete()  # what follows has no race in it
    everything_is_sent()
    for wish in [*bills[:50], *adas[:50]]:  # whoever was too late tries the same form again
        wish()
    everything_is_sent()
    outcomes = Operation.objects.values("extension__outcome").annotate(number=Count("pk"))
    assert {each["extension__outcome"]: each["number"] for each in outcomes} == {"confirmed": 50, "satisfied": 50}
    assert len(api.charges) == 50


def everything_is_sent():
    while Operation.objects.filter(state="requested").exists():
        sweep()


def test_e7_the_second_of_two_is_told_who_was_first_and_then_charged_once(engine, api, bill, ada, bills_key, adas_key):
    first, late = quote(engine, "3"), quote(engine, "5")
    ask(engine, bill, bills_key, quote=first)
    sweep()
    waiting = ask(engine, ada, adas_key, quote=late)
    sweep()
    assert fresh(waiting).state == "needs_reconfirm"
    assert "extended by Bill" in fresh(waiting).note
    ask(seen(engine.connection, api, "eng_1"), ada, adas_key, "5", retry_of=str(waiting.pk))
    sweep()
    assert [hours for _, hours, _ in api.charges] == [3, 5]


def test_e8_a_budget_for_one_of_two_engines_is_not_spent_twice(engine, second, api, bill, bills_key, acme):
    Limits.objects.create(team=acme, user_day=10 * DOLLAR)
    ends = at_once(*(lambda one=one: ask(one, bill, bills_key) for one in (engine, second)))
    sweep()
    assert sorted(type(end).__name__ for end in ends) == ["Operation", "OverLimit"]
    assert len(api.charges) == 1


def test_e9_twenty_at_once_on_a_budget_for_seven_are_seven(api, acme, bill, bills_key, fleet):
    Limits.objects.create(team=acme, team_day=7 * 750_000_000)
    ends = at_once(*(partial(ask, one, bill, bills_key) for one in fleet(20)))
    assert sum(isinstance(end, Operation) for end in ends) == 7
    assert {type(end) for end in ends} == {Operation, limits.OverLimit}
    sweep()
    assert len(api.charges) == 7


def test_two_purchases_of_one_engine_are_not_open_at_once(asked, engine, ada, adas_key):
    with pytest.raises(Busy, match="asked by Bill"):
        ask(engine, ada, adas_key)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"operation_hours": Decimal(2)}, "At most 2 hours"),
        ({"operation_cost": 7 * DOLLAR}, "At most \\$7.00 can be spent at once"),
        ({"user_day": 7 * DOLLAR}, "You may spend \\$7.00 a day"),
        ({"team_day": 7 * DOLLAR}, "The team may spend \\$7.00 a day"),
        ({"team_month": 7 * DOLLAR}, "The team may spend \\$7.00 a month"),
        ({"engine_hours": Decimal(2)}, "may be extended by 2 hours in all"),
    ],
)
def test_each_limit_is_held_and_named(engine, bill, bills_key, acme, limit, words):
    Limits.objects.create(team=acme, **limit)
    with pytest.raises(limits.OverLimit, match=words):
        ask(engine, bill, bills_key)
    assert Operation.objects.count() == 0


def test_yesterday_s_spending_does_not_count_today_but_this_month(asked, acme, clock, api):
    sweep()
    clock.advance(days=1)
    today = clock.at.replace(hour=0)
    assert limits.spent(acme, today) == 0
    assert limits.spent(acme, today.replace(day=1)) == 750_000_000


def test_what_is_unknown_counts_as_spent(asked, acme, api, clock):
    api.faults = [("silence",)]
    sweep()
    clock.advance(days=1)
    assert limits.spent(acme, clock.at) == 750_000_000


@pytest.fixture
def proposal(engine, bill, bills_key, acme, clock):
    Limits.objects.create(team=acme, approval_cost=1 * DOLLAR)
    made = quote(engine)
    return approve.propose(made, "render", engine=engine, user=bill, key=bills_key, origin=ORIGIN, now=NOON)


def approving(proposal, by, clock, shown=None):
    return approve.approve(proposal, shown or proposal.digest, by=Decider(by, ORIGIN), now=clock.now())


def test_e31_a_second_person_approves_and_it_is_bought_for_who_asked(proposal, ada, clock, api):
    operation = approving(proposal, ada, clock)
    sweep()
    entry = LedgerEntry.objects.get()
    assert (entry.user_name, entry.approved_name) == ("Bill", "Ada")
    assert (operation.pk, api.keys) == (proposal.pk, ["Bearer inf_bill_key"])


def test_e31_nobody_approves_what_they_asked_for(proposal, bill, clock, api):
    with pytest.raises(approve.NotApproved, match="Who asks"):
        approving(proposal, bill, clock)
    assert api.posts() == []


def test_e31_nobody_approves_whose_account_may_be_that_of_who_asks(proposal, ada, clock, api):
    ada.unproven_since = NOON
    with pytest.raises(approve.NotApproved, match="Nobody has vouched"):
        approving(proposal, ada, clock)
    assert api.posts() == []


def test_e31_nobody_approves_what_an_account_asked_that_may_be_their_own(proposal, bill, ada, clock, api):
    User.objects.filter(pk=bill.pk).update(unproven_since=NOON)
    with pytest.raises(approve.NotApproved, match="Nobody has vouched"):
        approving(proposal, ada, clock)
    assert api.posts() == []


@pytest.mark.parametrize("who", ["bill", "ada"])
def test_e31_above_the_limit_two_accounts_that_may_be_one_persons_settle_nothing(proposal, bill, ada, clock, who):
    operation = approving(proposal, ada, clock)
    assert reconcile.own_word(operation, ada) == ""
    User.objects.filter(email__startswith=who).update(unproven_since=NOON)
    operation = fresh(operation)
    assert "nobody has vouched" in reconcile.own_word(operation, User.objects.get(pk=ada.pk))


@pytest.mark.parametrize("who", ["bill", "ada"])
def test_e31_a_role_lost_meanwhile_ends_it(proposal, ada, clock, who):
    Membership.objects.filter(user__email__startswith=who).update(role=Role.VIEWER)
    with pytest.raises(approve.NotApproved, match="may no longer"):
        approving(proposal, ada, clock)


def test_e31_it_expires(proposal, ada, clock):
    clock.advance(minutes=31)
    with pytest.raises(approve.NotApproved, match="30 minutes"):
        approving(proposal, ada, clock)


def test_e31_parameters_that_changed_are_not_what_was_approved(proposal, ada, clock):
    Proposal.objects.filter(pk=proposal.pk).update(parameters=proposal.parameters | {"hours": "30"})
    with pytest.raises(approve.NotApproved, match="not what was shown"):
        approving(proposal, ada, clock)


def test_e31_what_another_page_showed_is_not_approved(proposal, ada, clock):
    with pytest.raises(approve.NotApproved, match="not what was shown"):
        approving(proposal, ada, clock, shown="0" * 64)


@pytest.mark.parametrize("change", ["price", "threshold"])
def test_e31_a_price_or_time_that_changed_voids_it(proposal, ada, clock, api, acme_connection, change):
    if change == "price":
        api.engines["eng_1"]["instance"]["hourly_price"] = 300
    else:
        api.move_end("eng_1", timedelta(hours=1))
    clock.advance(seconds=5)
    seen(acme_connection, api, "eng_1")
    with pytest.raises(approve.NotApproved, match="have changed"):
        approving(proposal, ada, clock)


def test_e31_a_removed_key_voids_it(proposal, ada, clock):
    StoredKey.objects.filter(pk=proposal.key_id).delete()
    with pytest.raises(approve.NotApproved):
        approving(proposal, ada, clock)


def test_e31_an_old_sign_in_does_not_approve(proposal, confirmed, ada):
    said = {"digest": proposal.digest, "reason": "it is for X"}
    page = confirmed(ada, ago=601).post(f"/cloud-time/{proposal.pk}/approve/", said)
    assert (page.status_code, "it is for X</textarea>" in page.content.decode()) == (409, True)
    assert Operation.objects.count() == 0


def test_e31_a_fresh_sign_in_does(proposal, client, ada):
    client.post("/accounts/login/", {"login": ada.email, "password": "correct horse battery"})
    page = client.post(f"/cloud-time/{proposal.pk}/approve/", {"digest": proposal.digest, "reason": "it is for X"})
    assert page["Location"] == f"/operations/{proposal.pk}/"


def test_e32_two_approvals_at_once_are_one_purchase(proposal, acme, ada, clock, api):
    anna = member("anna", Role.ADMIN, acme)
    ends = at_once(*(lambda who=who: approving(proposal, who, clock) for who in (ada, anna)))
    assert [end.pk for end in ends] == [proposal.pk, proposal.pk]
    sweep()
    assert len(api.posts()) == 1


def test_why_it_was_approved_is_on_the_timeline_and_in_the_log(proposal, client, ada):
    client.post("/accounts/login/", {"login": ada.email, "password": "correct horse battery"})
    url = f"/cloud-time/{proposal.pk}/approve/"
    assert client.post(url, {"digest": proposal.digest, "reason": " "}).status_code == 422
    assert Operation.objects.count() == 0
    client.post(url, {"digest": proposal.digest, "reason": "it is for X"})
    told = Operation.objects.get().moments.values_list("text", "reason")
    assert list(told) == [("Asked by Bill: render", ""), ("Approved by Ada.", "it is for X")]
    assert Entry.objects.get(action="cloudtime.approved").reason == "it is for X"


def test_what_was_approved_says_once_on_its_timeline_that_it_is_requested(proposal, client_of, ada, clock):
    operation = approving(proposal, ada, clock)
    timeline = client_of(ada).get(f"/operations/{operation.pk}/").content.decode().split('class="timeline"')[1]
    assert re.findall("<strong>(.*?)</strong>", timeline.split("</ol>")[0]) == ["Requested", "Approved by Ada."]


def test_why_it_was_rejected_is_shown_and_in_the_log(proposal, client_of, ada, bill):
    url = f"/cloud-time/{proposal.pk}/reject/"
    assert client_of(ada).post(url, {"reason": ""}).status_code == 422
    client_of(ada).post(url, {"reason": "too much"})
    page = client_of(bill).get("/cloud-time/").content.decode()
    assert "was rejected by Ada" in page
    assert "too much" in page
    assert Entry.objects.get(action="cloudtime.rejected").reason == "too much"
    assert Proposal.objects.get().decided_reason == "too much"


def test_the_dialog_of_who_asked_says_that_somebody_else_must(proposal, client_of, bill):
    page = client_of(bill).get(f"/cloud-time/{proposal.pk}/approve/").content.decode()
    assert "Who asks cannot approve" in page
    assert 'name="reason"' not in page


def test_a_dialog_that_showed_something_else_approves_nothing(proposal, client, ada):
    client.post("/accounts/login/", {"login": ada.email, "password": "correct horse battery"})
    url = f"/cloud-time/{proposal.pk}/approve/"
    kept = client.post(url, {"digest": "0" * 64, "reason": ""}).content.decode()
    assert "0" * 64 in kept
    assert proposal.digest not in kept
    client.post(url, {"digest": "0" * 64, "reason": "it is for X"})
    assert Operation.objects.count() == 0


def test_what_was_not_approved_in_time_is_said_to_who_asked(proposal, client_of, bill, clock):
    clock.advance(minutes=31)
    page = client_of(bill).get("/cloud-time/").content.decode()
    assert "Extend eng_1, asked by Bill, was not approved within 30 minutes" in page
    assert "asks for $7.50" not in page
    clock.advance(days=1)
    assert "was not approved" not in client_of(bill).get("/cloud-time/").content.decode()


def test_a_form_whose_purchase_was_rejected_does_not_send_for_a_second_person(proposal, engine, client_of, bill, ada):
    form = {"quote": approve.wanted(proposal).sign(engine, bill), "reason": proposal.reason}
    again = client_of(bill).post(f"/engines/{engine.uid}/extend/", form, follow=True).content.decode()
    assert "needs a second person" in again
    approve.reject(proposal, by=Decider(ada, ORIGIN, "too much"), now=NOON)
    again = client_of(bill).post(f"/engines/{engine.uid}/extend/", form, follow=True).content.decode()
    assert "Extend eng_1: It is rejected. Nothing was bought." in again
    assert "needs a second person" not in again


def test_a_rejected_purchase_cannot_be_approved(proposal, ada, bill, clock):
    approve.reject(proposal, by=Decider(bill, ORIGIN, "too much"), now=NOON)
    with pytest.raises(approve.NotApproved, match="rejected"):
        approving(proposal, ada, clock)


def test_what_the_limits_forbid_no_approval_allows(proposal, ada, clock, acme):
    Limits.objects.filter(team=acme).update(team_day=DOLLAR)
    with pytest.raises(limits.OverLimit):
        approving(proposal, ada, clock)
    assert Proposal.objects.get().state == Proposal.State.WAITING


@pytest.mark.parametrize("whose", ["the team's", "everybody's"])
def test_e33_a_freeze_that_is_being_written_at_the_arming_stops_it(asked, api, acme, ada, clock, monkeypatch, whose):
    written = threading.Event()

    def freeze_slowly():
        with transaction.atomic():
            if whose == "the team's":
                limits.freeze(acme, Decider(ada, ORIGIN, "budget"), NOON)
            else:
                call_command("freeze_spending", reason="incident", stdout=io.StringIO())
            written.set()
            threading.Event().wait(0.3)  # the arming comes meanwhile
        connection.close()

    def at_the_arming(name):
        if name == "extend.connected":
            threading.Thread(target=freeze_slowly).start()
            assert written.wait(10)

    monkeypatch.setattr("engines.money.send.failpoint", at_the_arming)
    wake(str(asked.pk), NOON)
    assert fresh(asked).state == "cancelled"
    assert api.posts() == []


def test_e36_a_message_delivered_five_times_to_two_workers_is_one_purchase(asked, api, clock):
    at_once(*[lambda: wake(str(asked.pk), NOON)] * 5)
    assert len(api.posts()) == 1
    assert fresh(asked).extension.outcome == "confirmed"


@pytest.fixture
def broker(monkeypatch, settings):
    """A real one, that Celery's messages go to."""
    with running() as started:
        settings.REDIS_URL = started.url
        address = started.url.replace("unix://", "redis+socket://").partition("?")[0]
        with app.connection_for_write(address) as opened:
            monkeypatch.setattr(wake_task, "apply_async", partial(wake_task.apply_async, connection=opened))
            breaker.reset()
            yield started
    breaker.reset()


def test_e37_messages_that_the_broker_forgot_are_not_needed(broker, engine, bill, bills_key, api, clock):
    asked = ask(engine, bill, bills_key)
    with redis.Redis.from_url(broker.url) as client:
        assert str(asked.pk) in str(base64.b64decode(json.loads(client.lindex("celery", 0))["body"]))
        client.flushall()
    sweep()
    assert (fresh(asked).extension.outcome, len(api.posts())) == ("confirmed", 1)


def test_e37_nor_is_the_broker(broker, engine, bill, bills_key, api, clock, caplog):
    broker.stop()
    asked = ask(engine, bill, bills_key)
    assert "the broker did not take" in caplog.text
    sweep()
    assert (fresh(asked).extension.outcome, len(api.posts())) == ("confirmed", 1)


def test_e2_two_clicks_within_50_ms_are_one_operation_a_hundred_times(client_of, bill, bills_key, fleet, api):
    browser, asked = client_of(bill), []
    for number, engine in enumerate(fleet(100)):
        rates.limiter.storage.reset()
        made = quote(engine, "0.25")
        form = {"quote": made.sign(engine, bill), "reason": "finish the render"}
        waits = [0.0, number // 2 % 11 * 0.005]
        clicks = [partial(click, browser, f"/engines/{engine.uid}/extend/", form, wait) for wait in waits]
        answers = at_once(*(clicks if number % 2 else reversed(clicks)))
        assert [answer["Location"] for answer in answers] == [f"/operations/{made.id}/"] * 2
        asked.append(made.id)
    sweep()
    assert set(Operation.objects.values_list("pk", "state")) == {(id, "succeeded") for id in asked}
    assert len(api.charges) == 100


def click(browser, url, form, wait):
    threading.Event().wait(wait)
    return copy(browser).post(url, form)


def test_a_purchase_without_room_for_its_audit_entry_is_none(engine, bill, bills_key, monkeypatch):
    monkeypatch.setattr("engines.operations.moves.record_all", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask(engine, bill, bills_key)
    assert Operation.objects.count() == 0


def test_the_ledger_is_only_added_to(asked, api):
    sweep()
    entry = LedgerEntry.objects.get()
    for change in (entry.save, entry.delete):
        with pytest.raises(TypeError, match="only ever added"):
            change()
