"""E1-E37 of the extend protocol that meet the API: what was sent, what was charged, and what the portal says of it."""

import contextlib
import json
import socket
from datetime import timedelta
from decimal import Decimal

import pytest

from engines.enums import State
from engines.models import LedgerEntry, Operation
from engines.money import buy, limits, send
from engines.money.models import Freeze
from engines.money.reconcile import resolve
from engines.operations import decide
from engines.operations.moves import Decider
from engines.operations.send import send as wake
from portal.accounts.models import Membership
from portal.accounts.roles import Role
from portal.audit.models import Entry
from portal.vault.keys import Secret, store
from tests.money.conftest import NOON, ORIGIN, ask, fresh, key_of, seen, settle, sweep
from tests.money.paid_api import PaidApi

pytestmark = pytest.mark.django_db


def run(operation):
    sweep()
    return fresh(operation)


def outcome(operation):
    return operation.state, operation.extension.outcome


def test_e1_a_purchase_is_sent_once_charged_once_and_booked(asked, api, acme):
    done = run(asked)
    entry = LedgerEntry.objects.of(acme).get()
    assert outcome(done) == ("succeeded", "confirmed")
    assert (len(api.posts()), len(api.charges)) == (1, 1)
    assert (entry.cost, entry.hours, entry.evidence) == (750_000_000, Decimal(3), "A")
    assert api.ends("eng_1") == NOON + timedelta(hours=8) == entry.after


def test_e1_the_audit_entry_has_both_ends_the_price_and_the_cost(asked, api):
    run(asked)
    entry = Entry.objects.get(action="cloudtime.charged")
    assert entry.before["paid_until"].startswith("2026-11-23T17:00")
    assert entry.after["paid_until"].startswith("2026-11-23T20:00")
    assert (entry.detail["price_cents"], entry.detail["cost"]) == (250, "$7.50")


def test_e10_a_changed_price_stops_it_before_anything_is_sent(asked, api):
    api.engines["eng_1"]["instance"]["hourly_price"] = 300
    done = run(asked)
    assert outcome(done) == ("needs_reconfirm", "outdated")
    assert "$2.50 an hour when you confirmed; now it is $3.00" in done.note
    assert api.posts() == []


def test_e11_a_deadline_moved_outside_stops_it_before_anything_is_sent(asked, api):
    api.move_end("eng_1", timedelta(hours=1))
    done = run(asked)
    assert outcome(done) == ("needs_reconfirm", "outdated")
    assert "changed outside this portal" in done.note
    assert api.posts() == []


def test_e11_a_deadline_that_is_late_enough_already_costs_nothing(asked, api):
    api.move_end("eng_1", timedelta(hours=9))
    done = run(asked)
    assert outcome(done) == ("succeeded", "satisfied")
    assert api.posts() == []


def test_e13_a_refusal_is_said_in_the_apis_words_and_charges_nothing(asked, api, client_of, bill):
    api.faults = [("status", 400, "extend_failed")]
    done = run(asked)
    assert outcome(done) == ("refused", "refused")
    assert "extend_failed <b>" in done.note
    page = client_of(bill).get(f"/operations/{done.pk}/").content.decode()
    assert "extend_failed &lt;b&gt;" in page
    assert "extend_failed <b>" not in page
    assert limits.spent(done.team, NOON - timedelta(days=1)) == 0


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 422])
def test_e14_a_refusal_of_any_kind_is_believed_after_one_reading(asked, api, status):
    api.faults = [("status", status, "no")]
    done = run(asked)
    assert outcome(done) == ("refused", "refused")
    assert len(api.posts()) == 1
    assert api.requests[-1] == ("GET", "/engines/eng_1")


@pytest.mark.parametrize("status", [401, 403])
def test_e14_a_rejected_key_is_flagged(asked, api, bills_key, status):
    api.faults = [("status", status, "no")]
    wake(str(asked.pk), NOON)
    bills_key.refresh_from_db()
    assert bills_key.last_error


def test_e14_a_refusal_that_a_reading_contradicts_is_for_a_person(asked, api):
    api.faults = [("status", 409, "conflict", True)]
    done = run(asked)
    assert outcome(done) == ("needs_attention", "ambiguous")
    settled(done, applied=True)


def settled(operation, *, applied):
    resolve(operation, applied=applied, by=Decider(operation.requested_by, ORIGIN, "seen in their ledger"))


def test_e15_busy_is_tried_again_after_a_reading(asked, api, clock):
    api.faults = [("status", 429, "rate_limited", False, [("Retry-After", "2")])]
    assert run(asked).state == State.REQUESTED
    clock.advance(seconds=3)
    done = run(asked)
    assert outcome(done) == ("succeeded", "confirmed")
    assert (len(api.posts()), len(api.charges)) == (2, 1)
    assert [method for method, _ in api.requests] == ["GET", "POST", "GET", "GET", "POST"]


def test_e16_busy_for_ever_ends_after_three_sends(asked, api, clock):
    api.faults = [("status", 429, "rate_limited")] * 9
    done = settle(clock, asked, minutes=5)
    assert outcome(done) == ("refused", "refused")
    assert (len(api.posts()), api.charges) == (3, [])


def told_to_wait(api, operation):
    api.faults = [("status", 429, "rate_limited")]
    assert run(operation).state == State.REQUESTED


def test_e16_busy_and_carried_out_after_all_is_booked_and_not_sent_again(asked, api, clock):
    told_to_wait(api, asked)
    api.extend("eng_1", 3)
    clock.advance(seconds=10)
    done = run(asked)
    assert outcome(done) == ("succeeded", "observed")
    assert (len(api.posts()), LedgerEntry.objects.get().evidence) == (1, "B")


@pytest.mark.parametrize("how", ["by a person", "by the clock"])
def test_e16_busy_and_ended_is_refused_and_not_said_to_be_unsent(asked, api, clock, how):
    told_to_wait(api, asked)
    if how == "by a person":
        buy.cancel(fresh(asked), by=Decider(asked.requested_by, ORIGIN))
    clock.advance(minutes=11)
    done = run(asked)
    assert outcome(done) == ("cancelled", "refused")
    assert "sent again" in done.note or "Nothing more was sent." in done.note


def test_e16_busy_and_changed_by_somebody_else_is_not_said_to_be_unsent(asked, api, clock):
    told_to_wait(api, asked)
    api.move_end("eng_1", timedelta(hours=1))
    clock.advance(seconds=10)
    done = run(asked)
    assert outcome(done) == ("needs_reconfirm", "outdated")
    assert "Nothing more was sent." in done.note


FAULTS_WITHOUT_EFFECT = {
    "E17 500": ("status", 500),
    "E17 502": ("status", 502),
    "E17 503": ("status", 503),
    "E17 504": ("status", 504),
    "E19 timeout": ("silence",),
    "E21 reset": ("reset",),
}


@pytest.mark.parametrize("fault", FAULTS_WITHOUT_EFFECT.values(), ids=FAULTS_WITHOUT_EFFECT)
def test_no_answer_and_no_effect_is_not_applied_once_it_has_settled(asked, api, clock, fault):
    api.faults = [fault]
    assert run(asked).state == State.UNKNOWN
    done = settle(clock, asked)
    assert outcome(done) == ("failed", "not_applied")
    assert len(api.posts()) == 1
    assert done.finished_at - done.extension.armed_at >= timedelta(minutes=15)
    assert len(done.extension.unchanged) >= 3


@pytest.mark.parametrize("headers", [(), [("Retry-After", "7")]], ids=["later", "in seconds"])
def test_nobody_is_told_to_try_again_while_it_is_unknown(asked, api, clock, headers):
    api.faults = [("status", 503, "overloaded", True, headers)]
    note = run(asked).note
    assert "has trouble (503): overloaded <b>. Whether it was charged is being checked. Do not ask again." in note
    settle(clock, asked, minutes=2)


FAULTS_WITH_EFFECT = {
    "E18 500": ("status", 500, "x", True),
    "E18 502": ("status", 502, "provider_unclear", True),
    "E18 503": ("status", 503, "x", True),
    "E18 504": ("status", 504, "x", True),
    "E19 timeout": ("silence", True),
    "E20 reset": ("reset", True),
    "E20 half an answer": ("half",),
    "E24 garbage": ("body", b"<html>oops"),
    "E24 another engine": ("body", json.dumps({"id": "eng_2", "instance": None}).encode()),
    "E24 50 MB": ("body", b"[" + b" " * 50_000_000 + b"]"),
    "E24 nothing": ("body", b""),
}


@pytest.mark.parametrize("fault", FAULTS_WITH_EFFECT.values(), ids=FAULTS_WITH_EFFECT)
def test_no_readable_answer_but_an_effect_is_observed(asked, api, clock, fault):
    api.faults = [fault]
    assert run(asked).state == State.UNKNOWN
    done = settle(clock, asked, minutes=2)
    assert outcome(done) == ("succeeded", "observed")
    assert (len(api.posts()), len(api.charges)) == (1, 1)
    assert LedgerEntry.objects.get().evidence == "B"


def test_e22_a_closed_port_is_tried_again_and_charged_once_it_opens(asked, api, clock, acme_connection):
    port = api.port
    api.close()
    assert run(asked).state == State.REQUESTED
    again = PaidApi(port)
    again.add("eng_1", NOON + timedelta(hours=5))
    clock.advance(seconds=20)
    done = run(asked)
    again.close()
    assert outcome(done) == ("succeeded", "confirmed")
    api.charges = again.charges
    assert len(api.charges) == 1


def test_e22_a_port_that_stays_closed_ends_it_unsent(asked, api, clock):
    api.close()
    done = settle(clock, asked, minutes=2)
    assert outcome(done) == ("failed", "not_sent")


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "https://127.0.0.1:{port}"], ids=["DNS", "TLS"])
def test_e22_neither_a_wrong_name_nor_a_failed_handshake_sends(engine, bill, api, clock, acme_connection, url):
    acme_connection.base_url = url.format(port=api.port)
    acme_connection.save()
    asked = ask(engine, bill, key_of(bill, acme_connection))
    done = settle(clock, asked, minutes=2)
    assert outcome(done) == ("failed", "not_sent")
    assert "Tried 4 times" in done.note
    assert api.posts() == []


def test_e22_a_connection_that_does_not_come_about_sends_nothing(asked, api, clock, monkeypatch):
    """The API's host drops what would open a connection, from the reading under the lock on."""
    full = socket.socket()
    full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    crowd = [socket.socket() for _ in range(4)]

    def fill_up(name):
        if name == "extend.checked" and not api.released.is_set():
            api.close()
            full.bind(("127.0.0.1", api.port))
            full.listen(0)
            for each in crowd:
                each.setblocking(False)
                each.connect_ex(full.getsockname())

    monkeypatch.setattr("engines.api.client.CONNECT_SECONDS", 0.1)
    monkeypatch.setattr("engines.money.send.failpoint", fill_up)
    with contextlib.ExitStack() as stack:
        for each in (full, *crowd):
            stack.enter_context(each)
        assert run(asked).state == State.REQUESTED
        assert fresh(asked).extension.armed_at is None
        assert outcome(settle(clock, asked, minutes=2)) == ("failed", "not_sent")
    assert api.posts() == []


def test_e23_each_purchase_opens_a_connection_of_its_own(asked, api):
    wake(str(asked.pk), NOON)
    assert api.connections == [1, 1]  # the reading under the lock, and the purchase


def test_e24_a_wrong_end_is_charged_and_said_to_be_wrong(asked, api):
    api.faults = [("wrong_end", timedelta(hours=2))]
    done = run(asked)
    assert outcome(done) == ("succeeded", "discrepancy")
    assert "not 2026-11-23 20:00" in done.note


def test_e25_a_redirect_is_not_followed_and_reported(asked, api, clock):
    elsewhere = PaidApi()
    api.faults = [("redirect", f"{elsewhere.url}/engines/eng_1/extend")]
    assert run(asked).state == State.UNKNOWN
    elsewhere.close()
    assert elsewhere.requests == []
    assert Entry.objects.filter(action="operation.redirected").count() == 1
    assert outcome(settle(clock, asked)) == ("failed", "not_applied")


def test_e26_an_effect_after_90_seconds_is_observed_and_never_offered_again_before(asked, api, clock):
    api.faults = [("silence",)]
    run(asked)
    assert settle(clock, asked, minutes=1).state == State.UNKNOWN
    clock.advance(seconds=30)
    api.extend("eng_1", 3)
    assert outcome(settle(clock, asked, minutes=4)) == ("succeeded", "observed")


@pytest.mark.uncounted("charged too late for any reading: the daily check shows it, the ledger cannot")
def test_e27_a_late_effect_stops_the_second_try_before_it_is_sent(asked, api, clock, engine, bill, bills_key):
    api.faults = [("silence",)]
    run(asked)
    done = settle(clock, asked)
    assert outcome(done) == ("failed", "not_applied")
    again = ask(seen(engine.connection, api, "eng_1"), bill, bills_key, retry_of=str(asked.pk))
    api.extend("eng_1", 3)
    late = run(again)
    assert outcome(late) == ("succeeded", "satisfied")
    assert (len(api.posts()), late.extension.retry_of_id) == (1, asked.pk)


def test_e28_the_same_hours_bought_elsewhere_meanwhile_look_like_ours(asked, api, clock):
    api.faults = [("silence",)]
    run(asked)
    api.extend("eng_1", 3)
    done = settle(clock, asked, minutes=1)
    assert outcome(done) == ("succeeded", "observed")
    assert LedgerEntry.objects.get().evidence == "B"


def test_e29_other_hours_bought_elsewhere_meanwhile_are_for_a_person(asked, api, clock):
    api.faults = [("silence",)]
    run(asked)
    api.move_end("eng_1", timedelta(hours=7))
    done = settle(clock, asked, minutes=1)
    assert outcome(done) == ("needs_attention", "ambiguous")
    assert limits.spent(done.team, NOON - timedelta(days=1)) == 750_000_000
    settled(done, applied=False)
    assert outcome(fresh(done)) == ("failed", "resolved_not_applied")
    assert limits.spent(done.team, NOON - timedelta(days=1)) == 0


def test_e29_a_person_may_say_that_it_was_charged(asked, api, clock):
    api.faults = [("silence", True)]
    run(asked)
    api.move_end("eng_1", timedelta(hours=7))
    done = settle(clock, asked, minutes=1)
    settled(done, applied=True)
    assert outcome(fresh(done)) == ("succeeded", "resolved_applied")
    assert LedgerEntry.objects.get().evidence == "P"


@pytest.mark.parametrize("state", ["requested", "checking"])
def test_a_purchase_that_is_not_armed_is_taken_back_and_never_sent(asked, api, state, acme):
    Operation.objects.filter(pk=asked.pk).update(state=state)
    buy.cancel(fresh(asked), by=Decider(asked.requested_by, ORIGIN))
    run(asked)
    assert outcome(fresh(asked)) == ("cancelled", "not_sent")
    assert api.posts() == []
    assert limits.spent(acme, NOON - timedelta(days=1)) == 0


def test_taken_back_while_it_is_checked_it_stops_before_the_first_byte(asked, api, monkeypatch):
    def meanwhile(name):
        if name == "extend.connected":
            buy.cancel(fresh(asked), by=Decider(asked.requested_by, ORIGIN))

    monkeypatch.setattr(send, "failpoint", meanwhile)
    run(asked)
    assert fresh(asked).state == State.CANCELLED
    assert api.posts() == []


@pytest.mark.parametrize("state", ["sending", "unknown", "needs_attention", "succeeded"])
def test_what_may_have_been_sent_cannot_be_taken_back(asked, state):
    Operation.objects.filter(pk=asked.pk).update(state=state)
    with pytest.raises(ValueError, match="cannot be taken back"):
        buy.cancel(fresh(asked), by=Decider(asked.requested_by, ORIGIN))


@pytest.mark.parametrize("step", ["send_again", "close", "cancel", "keep_waiting"])
def test_an_ambiguous_purchase_has_no_other_way_out(asked, api, clock, step):
    api.faults = [("silence",)]
    run(asked)
    api.move_end("eng_1", timedelta(hours=7))
    done = settle(clock, asked, minutes=1)
    with pytest.raises(ValueError, match=r"offer|move"):
        getattr(decide, step)(done, by=Decider(done.requested_by, ORIGIN), now=NOON)
    assert fresh(done).state == State.NEEDS_ATTENTION


@pytest.mark.parametrize("gone", ["engine", "machine", "stopped"])
def test_e30_an_engine_that_is_gone_proves_nothing(asked, api, clock, gone):
    api.faults = [("silence",)]
    run(asked)
    if gone == "engine":
        del api.engines["eng_1"]
    elif gone == "machine":
        api.engines["eng_1"]["instance"] = None
    else:
        api.engines["eng_1"]["status"] = "stopped"
    assert outcome(settle(clock, asked, minutes=1)) == ("needs_attention", "ambiguous")


def test_unreadable_it_stays_unknown(asked, api, clock):
    api.faults = [("silence",)]
    run(asked)
    api.reads = 500
    assert settle(clock, asked, minutes=60).state == State.UNKNOWN
    api.reads = None
    assert outcome(settle(clock, asked, minutes=60)) == ("failed", "not_applied")


def test_another_key_of_the_team_may_read_but_never_buys(asked, api, clock, adas_key):
    api.faults = [("silence",)]
    run(asked)
    api.refused = {"inf_bill_key"}
    assert outcome(settle(clock, asked)) == ("failed", "not_applied")
    assert api.keys == ["Bearer inf_bill_key"]


def test_e33_a_freeze_after_the_purchase_was_asked_stops_it(asked, api, acme):
    Freeze.objects.create(team=acme, at=NOON, by="Ada", reason="budget")
    done = run(asked)
    assert done.state == State.CANCELLED
    assert "frozen" in done.note
    assert limits.spent(acme, NOON - timedelta(days=1)) == 0
    assert api.posts() == []


def test_e33_a_freeze_of_everybody_between_check_and_arming_stops_it(asked, api, monkeypatch):
    def freeze_now(name):
        if name == "extend.connected":
            Freeze.objects.create(team=None, at=NOON, by="the operator", reason="incident")

    monkeypatch.setattr("engines.money.send.failpoint", freeze_now)
    done = run(asked)
    assert done.state == State.CANCELLED
    assert api.posts() == []


def test_e33_a_worker_held_up_over_the_freeze_does_not_send_by_what_it_read(asked, api, clock, monkeypatch):
    read = limits.freeze_of

    def slowly(team):
        found = read(team)
        if fresh(asked).state == State.CHECKING:
            clock.advance(seconds=3)
        return found

    monkeypatch.setattr("engines.money.limits.freeze_of", slowly)
    assert outcome(run(asked)) == ("failed", "not_sent")
    assert api.posts() == []


@pytest.mark.parametrize("change", [{"role": Role.VIEWER}, {"role": Role.OPERATOR}, None])
def test_e34_a_right_lost_meanwhile_stops_it(asked, api, bill, change):
    rows = Membership.objects.filter(user=bill)
    rows.update(**change) if change else rows.delete()
    assert run(asked).state == State.CANCELLED
    assert api.requests == []


def test_e35_a_key_deleted_meanwhile_stops_it(asked, api, bills_key):
    bills_key.delete()
    assert run(asked).state == State.CANCELLED
    assert api.requests == []


def test_e35_a_key_replaced_meanwhile_stops_it(asked, api, bill, acme_connection):
    store(user=bill, connection=acme_connection, secret=Secret("inf_a_new_one"), label="New", scopes=["*"])
    assert run(asked).state == State.CANCELLED
    assert api.requests == []


def test_e37_without_any_message_the_sweep_buys_it_once(asked, api):
    for _ in range(5):
        sweep()
    assert len(api.posts()) == 1


def test_it_is_not_bought_late(asked, api, clock):
    clock.advance(minutes=11)
    done = run(asked)
    assert done.state == State.CANCELLED
    assert "ten minutes" in done.note


def test_a_worker_held_up_after_arming_does_not_send(asked, api, clock, monkeypatch):
    monkeypatch.setattr(
        "engines.money.send.failpoint", lambda name: name == "extend.armed" and clock.advance(seconds=3)
    )
    done = run(asked)
    assert outcome(done) == ("failed", "not_sent")
    assert api.posts() == []


def test_a_worker_that_lost_its_claim_does_not_arm(asked, api, monkeypatch):
    def other_claims(name):
        if name == "extend.checked":
            Operation.objects.filter(pk=asked.pk).update(fence=9)

    monkeypatch.setattr("engines.money.send.failpoint", other_claims)
    wake(str(asked.pk), NOON)
    assert api.posts() == []
    assert fresh(asked).state == State.CHECKING
