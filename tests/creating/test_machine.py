"""A machine is ordered from the real control plane at most once, and what that one charged is what is booked."""

from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
from django.utils import timezone

from engines.access import client_for
from engines.controlplane import cloud as machines
from engines.controlplane import keys, money
from engines.controlplane.enums import EntryKind, InstanceStatus
from engines.controlplane.models import Engine as TheirEngine
from engines.controlplane.models import Instance
from engines.controlplane.models import LedgerEntry as TheirEntry
from engines.enums import State
from engines.models import DayCheck, Engine, LedgerEntry, Operation
from engines.money import amounts, approve, checks, limits, machine
from engines.money.approve import NotApproved
from engines.money.buy import rent
from engines.money.models import Freeze, Limits, Proposal
from engines.money.order import Order
from engines.operations.moves import CREATE_MOVES, EXTEND_MOVES, Decider
from portal import clock as clocks
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from tests.controlplane import conftest as theirs
from tests.controlplane.cloud import TYPES
from tests.engines.conftest import dto, read
from tests.money.conftest import Clock, clock, fresh, settle, sweep  # noqa: F401 (a fixture)
from tests.money.test_crashes import killed_at, worker  # noqa: F401 (a fixture)

ORIGIN = Origin(request_id="req-1", address="10.0.0.9", role="admin")
OFFER = {
    "cloud": "local",
    "region": "here",
    "instance_type": "cpu-2",
    "rental_type": "on_demand",
    "hardware": "2 vCPUs",
    "hours": Decimal(3),
    "price": 120,
}


@pytest.fixture(autouse=True)
def now(clock, wire, cloud, funds):  # noqa: F811
    """The portal's clock begins with the control plane's, which goes on by itself."""
    clock.at = timezone.now()
    funds(100)
    return clock


def ask(user, key, reason="more room", **changes):
    """Confirm the page: what a person does, without it."""
    order = changes.pop("order", None) or Order.new("burst", **OFFER | changes)
    return rent(order, reason, user=user, key=key, origin=ORIGIN, now=clocks.now())


@pytest.fixture
def asked(ada, adas_key):
    return ask(ada, adas_key)


class Host:
    """The machine's host: it speaks to the control plane over HTTP."""

    def __init__(self, url, key):
        self.url, self.key = url, key

    def post(self, path, body):
        return httpx.post(
            self.url + path, json=body, headers={"Authorization": f"Bearer {self.key}", "X-API-Version": "2"}
        )


@pytest.fixture
def comes(served, team):
    """Have the engine of that operation connect."""

    def come(operation):
        machines.look_around()
        agent = theirs.Agent(team, name=operation.engine_name)
        agent.id = TheirEngine.objects.get(name=operation.engine_name).pk
        agent.register(Host(served, keys.issue(team, "its host")[1]))
        agent.connect()

    return come


def later(clock, operation, **by):  # noqa: F811
    clock.advance(**by)
    sweep()
    return fresh(operation)


def test_it_is_ordered_comes_and_is_booked_as_their_books_say(asked, comes, now, wire, cloud, acme):
    sweep()
    ordered = fresh(asked)
    assert (ordered.state, ordered.engine.uid, ordered.engine.status) == (
        State.WORKING,
        TheirEngine.objects.get().pk,
        "pending",
    )
    comes(asked)
    done = later(now, asked, seconds=6)
    assert (done.state, done.extension.outcome, wire.orders, cloud.count("create")) == ("succeeded", "confirmed", 1, 1)
    entry = LedgerEntry.objects.get()
    assert (entry.engine_uid, entry.hours, entry.price, entry.evidence) == (done.engine.uid, 3, 120, "A")
    assert Decimal("3.5") * 10**8 < entry.cost <= Decimal("3.6") * 10**8


def test_its_first_daily_check_begins_with_the_end_that_was_ordered(asked, comes, now):
    sweep()
    assert checks.check_all(now.at) == 0  # its purchase is open
    comes(asked)
    later(now, asked, seconds=6)
    assert checks.check_all(now.at) == 1
    found = DayCheck.objects.get()
    assert (found.begin, found.ledger_hours, found.unexplained) == (LedgerEntry.objects.get().after, 0, 0)


def test_its_name_ends_in_a_mark_of_its_own(ada, adas_key):
    one, other = Order.new("burst", **OFFER), Order.new("burst", **OFFER)
    assert one.name.startswith("burst-")
    assert one.name != other.name


def test_its_steps_are_on_the_operations_page(asked, comes, now, browser):
    url = f"/operations/{asked.pk}/"
    assert "Create burst-" in browser.get(url).content.decode()
    sweep()
    machines.look_around()
    later(now, asked, seconds=6)
    page = browser.get(url).content.decode()
    assert "The machine: active" in page
    assert f'href="/engines/{fresh(asked).engine.uid}/"' in page
    comes(asked)
    later(now, asked, seconds=6)
    page = browser.get(url).content.decode()
    assert "runs and takes tasks" in page
    assert "Confirmed by the API" in page


def test_what_a_lost_answer_had_ordered_is_found_by_its_name(asked, comes, now, wire):
    wire.faults = ["lost after"]
    sweep()
    assert fresh(asked).state == State.UNKNOWN
    found = later(now, asked, seconds=1)
    assert (found.state, found.engine.name) == (State.WORKING, asked.engine_name)
    comes(asked)
    done = later(now, asked, seconds=6)
    assert (done.extension.outcome, LedgerEntry.objects.get().evidence, wire.orders) == ("observed", "B", 1)


def test_what_never_arrived_is_not_ordered_again(asked, now, wire):
    wire.faults = ["lost before"]
    sweep()
    for _ in range(3):
        assert later(now, asked, minutes=4, seconds=59).state == State.UNKNOWN
    done = later(now, asked, minutes=16)
    assert (done.state, done.extension.outcome, wire.orders) == ("failed", "not_applied", 1)


@pytest.mark.parametrize("status", [500, 502, 503, 302])
def test_an_answer_that_proves_nothing_is_unknown(asked, now, wire, status):
    wire.faults = [status]
    sweep()
    assert (fresh(asked).state, wire.orders) == (State.UNKNOWN, 1)


def test_a_cloud_that_refuses_is_quoted(asked, cloud):
    cloud.fail["create"] = "refuse"
    sweep()
    done = fresh(asked)
    assert (done.state, done.extension.outcome) == ("refused", "refused")
    assert "no machines today" in done.note


def test_a_balance_that_is_too_small_is_said(asked, team):
    with theirs.atomic():
        money.book(money.locked(team.pk), EntryKind.DEPOSIT, -99 * money.MICROCENTS_PER_DOLLAR, "for tests")
    sweep()
    assert fresh(asked).extension.outcome == "refused"
    assert "can be spent" in fresh(asked).note


def test_too_many_requests_are_asked_again_after_a_reading(asked, now, wire):
    wire.faults = [429]
    sweep()
    assert fresh(asked).state == State.REQUESTED
    later(now, asked, seconds=10)
    assert (fresh(asked).state, wire.orders) == (State.WORKING, 2)
    sink(asked)
    later(now, asked, seconds=6)


def test_what_was_told_to_be_asked_again_and_is_there_is_not_ordered_twice(asked, comes, now, wire):
    wire.faults = [429]
    sweep()
    with client_for(fresh(asked).key) as client:  # the API carries it out after all
        client.create(machine.body(asked, amounts.PaidTime(now.at, 120)), str(asked.pk), lambda: None)
    found = later(now, asked, seconds=10)
    assert (found.state, found.engine.name, wire.orders) == (State.WORKING, asked.engine_name, 2)
    comes(asked)
    assert later(now, asked, seconds=6).extension.outcome == "observed"
    assert (LedgerEntry.objects.get().evidence, wire.orders) == ("B", 2)


def sink(operation):
    """The machine that was ordered does not come: the control plane gives the money back."""
    instance = Instance.objects.get(engine__name=operation.engine_name)
    Instance.objects.filter(pk=instance.pk).update(machine_id="")
    instance.refresh_from_db()
    machines._undo(instance, "the order did not arrive at the cloud")


def test_an_order_that_sinks_at_the_cloud_is_given_back_and_not_booked(asked, now, cloud):
    cloud.fail["create"] = "lose"
    sweep()
    assert fresh(asked).state == State.WORKING
    sink(asked)
    done = later(now, asked, seconds=6)
    assert (done.state, done.extension.outcome) == ("failed", "refunded")
    assert "the order did not arrive at the cloud" in done.note


def test_a_machine_that_is_lost_before_its_engine_ran_is_booked(asked, now, cloud):
    sweep()
    Instance.objects.update(status=InstanceStatus.DELETED)
    TheirEngine.objects.update(state="stopped")
    done = later(now, asked, seconds=6)
    assert (done.state, done.extension.outcome) == ("failed", "unused")
    assert "was charged" in done.note


def test_an_engine_that_was_deleted_elsewhere_is_booked(asked, now):
    sweep()
    TheirEngine.objects.update(deleted_at=timezone.now())
    assert later(now, asked, seconds=6).extension.outcome == "unused"


def test_an_engine_that_does_not_come_ends_in_words_and_can_be_stopped_then(asked, now):
    sweep()
    assert later(now, asked, minutes=29).state == State.WORKING
    done = later(now, asked, minutes=2)
    assert (done.state, done.extension.outcome) == ("failed", "unused")
    assert "goes on costing: stop it" in done.note
    assert not Operation.objects.filter(engine=done.engine, finished_at=None).exists()


def test_without_books_a_machine_that_is_lost_is_settled_by_a_person(asked, now, monkeypatch, ada):
    from engines.money.reconcile import resolve

    sweep()
    monkeypatch.setattr("engines.api.client.EnginesClient.paid", lambda *_: None)
    TheirEngine.objects.update(deleted_at=timezone.now())
    unclear = later(now, asked, seconds=6)
    assert (unclear.state, unclear.extension.outcome) == ("needs_attention", "ambiguous")
    resolve(unclear, applied=False, by=Decider(ada, ORIGIN, "their entry 12 was given back"))
    assert fresh(asked).extension.outcome == "resolved_not_applied"
    TheirEntry.objects.filter(kind=EntryKind.CREATE).delete()  # as was found


def test_without_books_what_was_confirmed_is_booked(comes, now, team, ada, connection):
    poor = keys.issue(team, "poor", ["engines:read", "engines:write"])[1]
    key = store(user=ada, connection=connection, secret=Secret(poor), label="Ada's", scopes=["engines:write"])
    asked = ask(ada, key)
    sweep()
    comes(asked)
    done = later(now, asked, seconds=6)
    assert (done.extension.outcome, LedgerEntry.objects.get().cost) == ("confirmed", 360_000_000)
    entry = TheirEntry.objects.get(kind=EntryKind.CREATE)
    TheirEntry.objects.filter(pk=entry.pk).update(amount_microcents=-360_000_000)  # for the books: it is a hair less


@pytest.mark.uncounted("a person has yet to say that it was charged")
def test_charged_and_not_in_the_list_is_for_a_person(asked, now, wire):
    wire.faults = ["lost after"]
    sweep()
    TheirEngine.objects.update(deleted_at=timezone.now())
    unclear = later(now, asked, seconds=1)
    assert (unclear.state, unclear.extension.outcome) == ("needs_attention", "ambiguous")
    assert "it lists no such engine" in unclear.note


BEFORE = {
    "another price": ({"hourly_price": 121}, "needs_reconfirm", "now it is $1.21"),
    "sold out": ({"availability": [{"available": False, "region": "here"}]}, "refused", "has no cpu-2 in here"),
    "another place": ({"availability": [{"available": True, "region": "there"}]}, "refused", "has no cpu-2 in here"),
    "no price": ({"hourly_price": 0}, "refused", "has no cpu-2 in here"),
}


@pytest.mark.parametrize(("changes", "state", "words"), BEFORE.values(), ids=BEFORE)
def test_what_is_not_as_confirmed_is_not_ordered(asked, wire, monkeypatch, cloud, changes, state, words):
    monkeypatch.setattr("engines.controlplane.clouds.types", lambda cloud="": [TYPES[0] | changes])
    sweep()
    assert (fresh(asked).state, wire.orders) == (state, 0)
    assert words in fresh(asked).note


def test_a_name_that_is_taken_is_not_ordered(asked, caller, served, wire):
    wire_orders = wire.orders
    Host(served, caller.key).post("/engines", {"name": asked.engine_name})
    sweep()
    assert (fresh(asked).state, wire.orders) == ("needs_reconfirm", wire_orders + 1)


def test_a_freeze_stops_what_was_confirmed(asked, acme, wire):
    Freeze.objects.create(team=acme, at=timezone.now(), by="Bill", reason="audit")
    sweep()
    assert (fresh(asked).state, wire.orders) == ("cancelled", 0)


def test_a_freeze_at_the_last_moment_stops_it_too(asked, acme, wire, monkeypatch):
    def freeze_now(name):
        if name == "create.connected":
            Freeze.objects.create(team=acme, at=timezone.now(), by="Bill", reason="audit")

    monkeypatch.setattr("engines.money.send.failpoint", freeze_now)
    sweep()
    assert (fresh(asked).state, wire.orders) == ("cancelled", 0)


@pytest.mark.parametrize(
    "limit", [{"operation_hours": 2}, {"operation_cost": 1}, {"user_day": 1}, {"team_month": 1}, {"engine_hours": 2}]
)
def test_the_limits_hold_for_it(ada, adas_key, acme, limit):
    Limits.objects.create(team=acme, **limit)
    with pytest.raises(limits.OverLimit):
        ask(ada, adas_key)
    assert Operation.objects.count() == 0


def test_what_is_on_its_way_counts_as_spent(asked, acme, ada, adas_key, now):
    sweep()
    assert limits.spent(acme, timezone.now() - timedelta(days=1)) == 360_000_000
    Limits.objects.create(team=acme, team_day=500_000_000)
    with pytest.raises(limits.OverLimit):
        ask(ada, adas_key)
    sink(asked)
    later(now, asked, seconds=6)


def test_a_right_that_is_lost_stops_it(asked, acme, ada, wire):
    ada.memberships.update(role="billing")
    sweep()
    assert (fresh(asked).state, wire.orders) == ("cancelled", 0)


def test_above_the_limit_a_second_person_approves_it(acme, ada, adas_key, bill, now, comes):
    Limits.objects.create(team=acme, approval_cost=1)
    order = Order.new("burst", **OFFER)
    asked = {"engine": None, "user": ada, "key": adas_key, "origin": ORIGIN, "now": clocks.now()}
    proposal = approve.propose(order, "more room", **asked)
    assert approve.propose(order, "more room", **asked) == proposal
    with pytest.raises(NotApproved):
        approve.approve(proposal, proposal.digest, by=Decider(ada, ORIGIN), now=clocks.now())
    operation = approve.approve(proposal, proposal.digest, by=Decider(bill, ORIGIN), now=clocks.now())
    assert approve.approve(proposal, proposal.digest, by=Decider(bill, ORIGIN), now=clocks.now()) == operation
    sweep()
    comes(operation)
    assert later(now, operation, seconds=6).state == "succeeded"
    assert LedgerEntry.objects.get().approved_name == str(bill)


@pytest.mark.parametrize("role", ["billing", "operator"])
def test_who_may_no_longer_order_machines_gets_none_approved(acme, ada, adas_key, bill, role):
    order = Order.new("burst", **OFFER)
    proposal = approve.propose(order, "more room", engine=None, user=ada, key=adas_key, origin=ORIGIN, now=clocks.now())
    ada.memberships.update(role=role)
    with pytest.raises(NotApproved, match="may no longer buy machines"):
        approve.approve(proposal, proposal.digest, by=Decider(bill, ORIGIN), now=clocks.now())


def test_a_proposal_whose_machine_was_changed_is_not_approved(acme, ada, adas_key, bill):
    order = Order.new("burst", **OFFER)
    proposal = approve.propose(order, "more room", engine=None, user=ada, key=adas_key, origin=ORIGIN, now=clocks.now())
    shown = proposal.digest
    Proposal.objects.update(parameters=order.parameters() | {"hours": "300"})
    with pytest.raises(NotApproved):
        approve.approve(proposal, shown, by=Decider(bill, ORIGIN), now=clocks.now())


def test_an_operation_that_somebody_asked_of_it_meanwhile_does_not_hold_it_up(asked, comes, now, wire, ada, adas_key):
    """The fleet saw the new engine before its order's answer was recorded, and somebody renames it."""
    from engines.operations.request import request
    from tests.engines.conftest import wish

    wire.faults = ["lost after"]
    sweep()
    their = TheirEngine.objects.get()
    read(adas_key.connection, dto(uid=their.pk, name=their.name, status="pending"), at=now.at)
    engine = Engine.objects.get(uid=their.pk)
    request(wish(), engine=engine, user=ada, key=adas_key, origin=ORIGIN, now=now.at + timedelta(hours=1))
    found = later(now, asked, seconds=1)
    assert (found.state, found.engine) == (State.WORKING, None)
    comes(asked)
    done = later(now, asked, seconds=6)
    assert (done.state, done.engine.pk) == ("succeeded", engine.pk)


def test_the_log_has_its_way(asked, comes, now):
    sweep()
    comes(asked)
    later(now, asked, seconds=6)
    said = Entry.objects.filter(operation_id=str(asked.pk)).values_list("action", flat=True).order_by("number")
    assert list(said) == ["engine.create", "operation.succeeded", "cloudtime.charged"]


def test_it_moves_as_every_purchase_does_but_for_the_minutes_on_its_way():
    more = {state: CREATE_MOVES[state] - EXTEND_MOVES[state] for state in State if state != State.WORKING}
    assert {state: moves for state, moves in more.items() if moves} == {
        State.CHECKING: {State.WORKING},
        State.SENDING: {State.WORKING},
        State.UNKNOWN: {State.WORKING},
    }
    assert CREATE_MOVES[State.WORKING] == {State.SUCCEEDED, State.FAILED, State.NEEDS_ATTENTION}
    assert not any(State.REQUESTED in CREATE_MOVES[state] for state in (State.UNKNOWN, State.WORKING))


@pytest.mark.parametrize("place", ["create.claimed", "create.checked", "create.connected", "create.arming"])
def test_killed_before_it_was_armed_another_worker_orders_it(asked, comes, now, wire, worker, place):  # noqa: F811
    assert killed_at(worker, asked, place).state == State.CHECKING
    assert wire.orders == 0
    later(now, asked, seconds=61)
    later(now, asked, seconds=1)
    comes(asked)
    assert later(now, asked, seconds=6).extension.outcome == "confirmed"
    assert wire.orders == 1


def test_killed_after_it_was_armed_nobody_orders_it(asked, now, wire, worker):  # noqa: F811
    assert killed_at(worker, asked, "create.armed").state == State.SENDING
    for _ in range(5):
        later(now, asked, minutes=6)
    assert (fresh(asked).extension.outcome, wire.orders) == ("not_applied", 0)


@pytest.mark.parametrize("place", ["create.answered", "create.recording"])
def test_killed_before_the_answer_was_recorded_it_is_found(asked, comes, now, wire, worker, place):  # noqa: F811
    assert killed_at(worker, asked, place).state == State.SENDING
    later(now, asked, minutes=3)  # its lease is over,
    later(now, asked, minutes=1)  # and its worker gave no sign of life
    assert later(now, asked, seconds=1).state == State.WORKING
    comes(asked)
    assert later(now, asked, seconds=6).extension.outcome == "observed"
    assert wire.orders == 1


def test_killed_after_it_was_recorded_it_goes_on(asked, comes, now, wire, worker):  # noqa: F811
    assert killed_at(worker, asked, "create.recorded").state == State.WORKING
    comes(asked)
    assert later(now, asked, seconds=6).extension.outcome == "confirmed"
