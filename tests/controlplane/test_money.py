"""Paid time: exact to the microcent, once, and never for nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections
from django.utils.timezone import now

from engines.controlplane import cloud as machines
from engines.controlplane import clouds, extend, money
from engines.controlplane.models import Answered, Engine, Extension, Instance, LedgerEntry, Team
from engines.controlplane.providers.base import Unclear
from tests.controlplane.conftest import check_books, look_again

HOUR = 120_000_000  # microcents of one hour at $1.20


def ask(caller, agent, hours, **headers):
    return caller.post(f"/engines/{agent.id}/extend", {"additional_hours": hours}, **headers)


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def threshold(agent):
    return Instance.objects.get(engine=agent.id).delete_at


def spent(team):
    row = check_books(team)
    return 100 * money.MICROCENTS_PER_DOLLAR - row.balance_microcents


@pytest.fixture
def paid(rented, team):
    """What the engine cost so far."""
    return spent(team)


def order(caller, **what):
    return caller.post("/engines", order_body(**what))


def order_body(hours=10, name="new", **more):
    return {
        "name": name,
        "instance": {"cloud": "local", "region": "here", "shade_instance_type": "cpu-2"},
        "auto_delete": {"date_threshold": (now() + timedelta(hours=hours)).isoformat(), **more},
    }


@pytest.fixture
def order_of(caller, rented):
    """Rent another machine under this name that is due at once, before all the others if `first`."""

    def _order(name, *, first):
        made = order(caller, name=name).json()["id"]
        Instance.objects.update(next_at=now() - timedelta(seconds=5))
        if first:
            Instance.objects.filter(engine=made).update(next_at=now() - timedelta(seconds=9))

    return _order


# Extend


@pytest.mark.parametrize(
    ("hours", "cost"),
    [(1, HOUR), (4, 4 * HOUR), (0.5, HOUR // 2), (0.1, 12_000_000), (1.1, 132_000_000), (1 / 3, 40_000_000)],
)
def test_it_costs_price_times_hours_and_moves_the_end_by_as_many(caller, rented, cloud, team, paid, hours, cost):
    before = threshold(rented)
    answer = ask(caller, rented, hours)
    assert answer.status_code == 200
    assert abs(threshold(rented) - before - timedelta(hours=hours)) < timedelta(milliseconds=1)
    assert spent(team) - paid == cost
    assert check_books(team).held_microcents == 0
    assert cloud.ends["m-1"] == threshold(rented)


def test_a_part_of_a_microcent_is_rounded_up():
    assert money.price_of(1, Decimal("0.0000001")) == 1


def test_the_answer_shows_the_new_end(caller, rented):
    shown = ask(caller, rented, 2).json()["instance"]["auto_delete"]["date_threshold"]
    assert shown == threshold(rented).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("body", [None, {}, {"additional_hours": None}, {"hours": 4}])
def test_hours_are_required(caller, rented, team, paid, body):
    assert code(caller.post(f"/engines/{rented.id}/extend", body)) == (400, "validation_error")
    assert spent(team) == paid


# As JSON: the last ones are too large for a float, too large for an integer, and no time at all.
@pytest.mark.parametrize(
    "hours",
    ["0", "-0.0", "-1", '"4"', "true", "[4]", "NaN", "10000", "1e309", "1" + "0" * 400, "1" + "0" * 5000, "1e-300"],
)
def test_hours_that_are_no_hours_are_refused(caller, rented, cloud, team, paid, hours):
    answer = caller.post(f"/engines/{rented.id}/extend", f'{{"additional_hours": {hours}}}')
    assert answer.status_code == 400
    assert (spent(team), cloud.count("set_auto_delete")) == (paid, 0)


def test_the_whole_balance_can_be_spent_and_not_a_microcent_more(caller, rented, team, paid):
    Team.objects.update(balance_microcents=2 * HOUR - 1)
    assert code(ask(caller, rented, 2)) == (402, "payment_required")
    Team.objects.update(balance_microcents=2 * HOUR)
    assert ask(caller, rented, 2).status_code == 200
    assert Team.objects.get(pk=team.pk).balance_microcents == 0


def test_money_that_is_not_there_is_not_spent(caller, rented, cloud, team, paid):
    answer = ask(caller, rented, 100)
    assert code(answer) == (402, "payment_required")
    assert answer.json()["meta"]["needed_microcents"] == 100 * HOUR
    assert (spent(team), cloud.count("set_auto_delete")) == (paid, 0)


def test_an_engine_of_ones_own_has_nothing_to_extend(caller, agent):
    assert code(ask(caller, agent, 1)) == (400, "extend_failed")


@pytest.mark.parametrize("status", ["creating", "pending", "error", "deleting", "deleted"])
def test_a_machine_that_is_not_active_cannot_be_extended(caller, rented, team, paid, status):
    Instance.objects.update(status=status)
    assert code(ask(caller, rented, 1)) == (400, "extend_failed")
    assert spent(team) == paid


def test_time_that_is_over_cannot_be_extended(caller, rented, team, paid):
    Instance.objects.update(delete_at=now() - timedelta(seconds=1))
    assert code(ask(caller, rented, 1)) == (400, "extend_failed")
    assert spent(team) == paid


def test_time_reaches_thirty_days_ahead_and_no_further(caller, rented, funds):
    funds(10_000)
    assert code(ask(caller, rented, 711)) == (400, "extend_failed")
    assert ask(caller, rented, 709).status_code == 200


def test_a_stopping_engine_is_not_extended(caller, rented, team, paid):
    caller.post(f"/engines/{rented.id}/stop")
    assert ask(caller, rented, 1).status_code == 409
    assert spent(team) == paid


def test_what_the_cloud_refuses_costs_nothing(caller, rented, cloud, team, paid):
    before = threshold(rented)
    cloud.fail["set_auto_delete"] = "refuse"
    answer = ask(caller, rented, 1)
    assert code(answer) == (400, "extend_failed")
    assert "no machines today" in answer.json()["detail"]
    assert (threshold(rented), spent(team)) == (before, paid)
    assert check_books(team).held_microcents == 0


@pytest.mark.parametrize("how", ["lose", "lose_answer"])
def test_without_an_answer_the_money_is_held_until_there_is_one_and_then_spent_once(
    caller, rented, cloud, team, paid, later, how
):
    before = threshold(rented)
    cloud.fail["set_auto_delete"] = how
    assert code(ask(caller, rented, 3)) == (502, "provider_unclear")
    row = check_books(team)
    assert (spent(team), row.held_microcents, threshold(rented)) == (paid, 3 * HOUR, before)
    assert code(ask(caller, rented, 3)) == (409, "conflict")
    cloud.fail.clear()
    later(100)
    extend.settle_held()
    extend.settle_held()
    assert (spent(team) - paid, check_books(team).held_microcents) == (3 * HOUR, 0)
    assert threshold(rented) == before + timedelta(hours=3) == cloud.ends["m-1"]


def test_money_that_is_held_is_not_spent_on_something_else(caller, rented, cloud, team, funds):
    funds(-85)  # of the 88 that are left
    cloud.fail["set_auto_delete"] = "lose"
    ask(caller, rented, 2)
    assert code(order(caller, hours=1)) == (402, "payment_required")
    assert LedgerEntry.objects.filter(kind="create").count() == 1


def test_a_machine_is_not_given_back_while_its_extension_is_being_settled(caller, rented, cloud, later):
    Instance.objects.update(delete_at=now() + timedelta(seconds=5))
    cloud.fail["set_auto_delete"] = "lose_answer"
    ask(caller, rented, 2)
    later(60)
    look_again()
    assert cloud.count("delete") == 0


def test_a_machine_that_was_extended_while_others_were_looked_after_is_not_given_back(
    caller, rented, cloud, order_of, later
):
    order_of("slow", first=True)
    Instance.objects.filter(engine=rented.id).update(delete_at=now() + timedelta(seconds=1))
    info = cloud.info

    def slowly(machine_id):
        ask(caller, rented, 2)
        later(5)
        return info(machine_id)

    cloud.info = slowly
    machines.look_around()
    assert cloud.count("delete") == 0
    assert Instance.objects.get(engine=rented.id).tear_down is False


def test_the_end_is_looked_up_again_before_a_machine_is_given_back(caller, rented, cloud):
    stale = Instance.objects.get()
    stale.delete_at = now() - timedelta(seconds=1)
    machines._look_after(stale)
    assert (cloud.count("delete"), Instance.objects.get().tear_down) == (0, False)


def test_a_process_whose_clock_is_ahead_ends_no_machine(caller, rented, cloud, later):
    Instance.objects.update(delete_at=now() + timedelta(minutes=10))
    later(11 * 60)
    machines.look_around()
    assert (cloud.count("delete"), Instance.objects.get().tear_down) == (0, False)


def test_that_the_cloud_takes_no_calls_now_does_not_settle_what_it_may_have_done(
    caller, rented, cloud, team, paid, later
):
    cloud.fail["set_auto_delete"] = "lose_answer"
    ask(caller, rented, 3)
    cloud.fail["set_auto_delete"] = "busy"
    later(100)
    extend.settle_held()
    assert check_books(team).held_microcents == 3 * HOUR
    cloud.fail.clear()
    later(200)
    extend.settle_held()
    assert (spent(team) - paid, threshold(rented)) == (3 * HOUR, cloud.ends["m-1"])


def test_a_cloud_that_takes_no_calls_now_refuses_a_first_one(caller, rented, cloud, team, paid):
    cloud.fail["set_auto_delete"] = "busy"
    assert code(ask(caller, rented, 3)) == (400, "extend_failed")
    assert (spent(team), check_books(team).held_microcents) == (paid, 0)


def test_the_same_request_under_the_same_key_is_paid_once(caller, rented, team, paid):
    first = ask(caller, rented, 2, Idempotency_Key="k1")
    again = ask(caller, rented, 2, Idempotency_Key="k1")
    assert (again.status_code, again.json(), again["Idempotent-Replayed"]) == (200, first.json(), "true")
    assert spent(team) - paid == 2 * HOUR


@pytest.mark.django_db(databases=["default", "controlplane"], transaction=True)
def test_the_same_request_many_times_at_once_under_the_same_key_is_paid_once(caller, rented, team, paid):
    def once(_):
        try:
            return ask(caller, rented, 2, Idempotency_Key="k1").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        codes = list(threads.map(once, range(12)))
    assert 200 in codes
    assert set(codes) <= {200, 409}
    assert spent(team) - paid == 2 * HOUR


def test_a_request_that_died_is_never_repeated_under_its_key(caller, rented, cloud, team, paid):
    def die(machine_id, delete_at, spend_limit):
        raise SystemExit

    cloud.set_auto_delete = die
    with pytest.raises(SystemExit):
        ask(caller, rented, 2, Idempotency_Key="k1")
    del cloud.set_auto_delete
    assert code(ask(caller, rented, 2, Idempotency_Key="k1")) == (409, "request_in_progress")
    Answered.objects.update(created_at=now() - timedelta(minutes=5))
    Extension.objects.update(next_at=now() - timedelta(seconds=1))
    extend.settle_held()
    assert code(ask(caller, rented, 2, Idempotency_Key="k1")) == (409, "outcome_unknown")
    assert spent(team) - paid == 2 * HOUR


def test_another_request_under_the_same_key_is_refused(caller, rented, team, paid):
    ask(caller, rented, 2, Idempotency_Key="k1")
    assert code(ask(caller, rented, 3, Idempotency_Key="k1")) == (422, "validation_error")
    assert spent(team) - paid == 2 * HOUR


def test_a_refusal_leaves_the_key_free(caller, rented, cloud, team, paid):
    cloud.fail["set_auto_delete"] = "refuse"
    assert ask(caller, rented, 2, Idempotency_Key="k1").status_code == 400
    cloud.fail.clear()
    assert ask(caller, rented, 2, Idempotency_Key="k1").status_code == 200
    assert spent(team) - paid == 2 * HOUR


def test_a_request_that_failed_before_anything_was_done_may_be_sent_again_under_its_key(
    caller, cloud, funds, team, monkeypatch
):
    funds(100)

    def away(cloud=""):
        raise Unclear("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(clouds, "types", away)
        body = order_body()
        refused = caller.post("/engines", body, Idempotency_Key="k1")
        assert (code(refused), Answered.objects.count()) == ((502, "provider_unclear"), 0)
    assert caller.post("/engines", body, Idempotency_Key="k1").status_code == 200
    assert cloud.count("create") == 1


def test_a_warning_is_repeated_with_its_answer(caller, rented):
    Instance.objects.update(spend_limit=50)
    asked = f"/engines/{rented.id}/extend", {"additional_hours": 1}
    first, again = (caller.post(*asked, version="", Idempotency_Key="k1").json() for _ in range(2))
    assert first["messages"]
    assert again == first


def test_an_order_under_way_is_not_called_lost_while_its_cloud_may_still_answer(caller, rented, later):
    body = {"additional_hours": 2}
    ask(caller, rented, 2, Idempotency_Key="k1")
    Answered.objects.update(status=None)
    later(150)
    answer = caller.post(f"/engines/{rented.id}/extend", body, Idempotency_Key="k1")
    assert code(answer) == (409, "request_in_progress")
    later(201)
    answer = caller.post(f"/engines/{rented.id}/extend", body, Idempotency_Key="k1")
    assert code(answer) == (409, "outcome_unknown")


def test_a_spend_limit_stays_and_the_answer_says_so(caller, rented, team):
    Instance.objects.update(spend_limit=50)
    messages = caller.post(f"/engines/{rented.id}/extend", {"additional_hours": 1}, version="").json()["messages"]
    assert "spend limit" in messages[0]["message"]


@pytest.mark.django_db(databases=["default", "controlplane"], transaction=True)
def test_of_many_at_once_only_those_are_accepted_that_the_balance_pays(caller, rented, team, funds):
    rest = check_books(team).balance_microcents
    funds(-(rest // money.MICROCENTS_PER_DOLLAR) + 9)  # between 9 and 10 dollars: seven hours

    def once(_):
        try:
            return ask(caller, rented, 1).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(once, range(24)))
    accepted = codes.count(200)
    assert set(codes) <= {200, 402, 409}
    row = check_books(team)
    assert 1 <= accepted <= 8
    assert Extension.objects.filter(state="done").count() == accepted
    assert row.held_microcents == 0
    assert row.balance_microcents >= 0


# Create


def test_a_new_machine_is_paid_up_to_its_end(caller, cloud, funds, team):
    funds(100)
    answer = order(caller, hours=10)
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    assert abs(spent(team) - 10 * HOUR) < HOUR // 1000
    assert cloud.machines["m-1"]["order"].launch.engine_id == answer.json()["id"]


def test_its_engine_runs_once_it_has_said_hello(caller, rented):
    shown = caller.get(f"/engines/{rented.id}").json()
    assert (shown["status"], shown["instance"]["status"], shown["instance"]["hourly_price"]) == (
        "running",
        "active",
        120,
    )


def test_a_machine_that_cannot_be_paid_is_not_ordered(caller, cloud, funds, team):
    funds(1)
    assert code(order(caller)) == (402, "payment_required")
    assert (cloud.calls, Engine.objects.count()) == ([], 0)


def test_an_order_that_the_cloud_refuses_is_paid_back_and_leaves_nothing(caller, cloud, funds, team):
    funds(100)
    cloud.fail["create"] = "refuse"
    answer = order(caller)
    assert code(answer) == (400, "create_failed")
    assert spent(team) == 0
    assert caller.post("/engines/list").json()["items"] == []


def test_an_order_whose_answer_was_lost_is_found_and_not_sent_again(caller, cloud, funds, team):
    funds(100)
    cloud.fail["create"] = "lose_answer"
    assert order(caller).json()["status"] == "pending"
    cloud.fail.clear()
    look_again()
    look_again()
    assert (cloud.count("create"), Instance.objects.get().machine_id) == (1, "m-1")
    assert spent(team) > 0


def test_an_order_that_never_arrived_is_paid_back_after_a_while(caller, cloud, funds, team, later):
    funds(100)
    cloud.fail["create"] = "lose"
    created = order(caller).json()
    look_again()
    assert spent(team) > 0
    later(11 * 60)
    look_again()
    look_again()
    assert spent(team) == 0
    assert caller.get(f"/engines/{created['id']}").json()["status"] == "stopped"


def test_a_machine_whose_order_was_paid_back_before_it_was_sent_is_given_back(caller, cloud, funds, team, later):
    funds(100)
    create = cloud.create

    def after_a_sleep(wanted):
        later(11 * 60)
        look_again()
        return create(wanted)

    cloud.create = after_a_sleep
    order(caller)
    assert spent(team) == 0
    look_again()
    assert (cloud.count("create"), cloud.count("delete")) == (1, 1)


def test_a_stop_before_the_order_is_answered_gives_the_machine_back(caller, cloud, funds):
    funds(100)
    create = cloud.create

    def slowly(wanted):
        caller.post(f"/engines/{wanted.launch.engine_id}/stop")
        return create(wanted)

    cloud.create = slowly
    assert order(caller).json()["status"] == "stopping"
    look_again()
    assert (cloud.count("create"), cloud.count("delete")) == (1, 1)


def test_one_machine_that_cannot_be_read_does_not_hold_up_the_others(caller, rented, cloud, order_of):
    order_of("broken", first=True)
    Instance.objects.filter(engine=rented.id).update(tear_down=True)
    info = cloud.info
    cloud.info = lambda machine_id: info(machine_id).nothing_like_it
    machines.look_around()
    assert cloud.count("delete") == 1


@pytest.mark.parametrize("hours", [0.5, 721, -1])
def test_paid_time_is_one_hour_to_thirty_days(caller, cloud, funds, team, hours):
    funds(10_000)
    assert code(order(caller, hours=hours)) == (422, "validation_error")
    assert cloud.calls == []


def test_what_is_not_on_offer_is_refused(caller, cloud, funds):
    funds(100)
    body = {
        "name": "new",
        "instance": {"cloud": "local", "region": "there", "shade_instance_type": "cpu-2"},
        "auto_delete": {"date_threshold": (now() + timedelta(hours=2)).isoformat()},
    }
    assert code(caller.post("/engines", body)) == (422, "validation_error")
    assert cloud.calls == []


def test_an_own_engine_gets_a_record_that_it_registers_with(caller, team):
    made = caller.post("/engines", {"name": "rack-9"}).json()
    assert (made["status"], made["instance"]) == ("pending", None)
    state = {"id": made["id"], "name": "whatever", "boot_id": "b"}
    assert caller.post("/engines/register", {"local_engine_state": state}).json()["engine_id"] == made["id"]
    assert caller.get(f"/engines/{made['id']}").json()["name"] == "rack-9"


# The end


def test_time_that_is_over_ends_the_machine_and_what_ran_on_it(caller, rented, cloud, team):
    Instance.objects.update(delete_at=now() - timedelta(seconds=1))
    look_again()
    shown = caller.get(f"/engines/{rented.id}").json()
    assert (shown["status"], shown["instance"]["status"], cloud.count("delete")) == ("stopped", "deleting", 1)


def test_a_spend_limit_ends_the_machine(caller, rented, cloud):
    Instance.objects.update(spend_limit=Decimal(5), cost=Decimal("5.01"))
    look_again()
    assert cloud.count("delete") == 1


def test_a_spend_limit_ends_the_machine_although_its_extension_is_not_settled(caller, rented, cloud):
    cloud.fail["set_auto_delete"] = "lose"
    ask(caller, rented, 2)
    Instance.objects.update(spend_limit=Decimal(5), cost=Decimal("5.01"))
    look_again()
    assert cloud.count("delete") == 1


def test_a_new_price_of_the_cloud_is_what_an_extension_costs(caller, rented, cloud, team, paid):
    cloud.machines["m-1"]["facts"] = {"hourly_price": 150, "shade_instance_type": "cpu-2b"}
    look_again()
    assert ask(caller, rented, 2).json()["instance"]["hourly_price"] == 150
    assert spent(team) - paid == 2 * 150_000_000
    assert Instance.objects.get(engine=rented.id).instance_type == "cpu-2b"


@pytest.mark.parametrize("price", [None, 0, -1, "150", True, 10**12])
def test_a_price_that_is_none_changes_nothing(rented, cloud, price):
    cloud.machines["m-1"]["facts"] = {"hourly_price": price}
    look_again()
    assert Instance.objects.get(engine=rented.id).hourly_price == 120


def test_a_machine_whose_time_is_nearly_over_gets_no_new_task(caller, rented, queue):
    from engines.controlplane import dispatch

    Instance.objects.update(delete_at=now() + timedelta(minutes=4))
    task = queue()
    dispatch.run()
    task.refresh_from_db()
    assert (task.worker_id, task.waiting_for) == (None, "paid_time_ending")


def test_a_machine_that_vanished_takes_its_engine_with_it_once_the_cloud_has_said_so_for_a_while(
    caller, rented, cloud, later
):
    cloud.machines.clear()
    rented.hang_up()
    look_again()
    shown = caller.get(f"/engines/{rented.id}").json()
    assert (shown["status"], shown["instance"]["status"]) == ("disconnected", "active")
    assert "has not known this machine since" in shown["instance"]["error"]
    later(machines.ABSENCE_SETTLES.total_seconds() + 1)
    look_again()
    shown = caller.get(f"/engines/{rented.id}").json()
    assert (shown["status"], shown["instance"]["status"]) == ("stopped", "deleted")
    assert cloud.count("delete") == 1


def test_a_cloud_that_denies_a_machine_for_a_moment_takes_nothing_from_its_engine(caller, rented, cloud, later):
    rented.hang_up()
    forgotten, cloud.machines = cloud.machines, {}
    look_again()
    cloud.machines = forgotten
    later(60)
    look_again()
    cloud.machines = {}
    later(machines.ABSENCE_SETTLES.total_seconds() + 1)
    look_again()
    key = Instance.objects.get(engine=rented.id).key
    assert (rented.row.state, key.revoked_at, cloud.count("delete")) == ("running", None, 0)


def test_a_machine_whose_engine_is_connected_is_not_gone_whatever_the_cloud_says(rented, cloud, later):
    cloud.machines.clear()
    look_again()
    later(machines.ABSENCE_SETTLES.total_seconds() + 1)
    look_again()
    assert (rented.row.state, Instance.objects.get(engine=rented.id).status) == ("running", "active")


def test_it_has_its_while_anew_once_its_engine_hangs_up(rented, cloud, later):
    cloud.machines.clear()
    look_again()
    later(machines.ABSENCE_SETTLES.total_seconds() + 1)
    look_again()
    rented.hang_up()
    look_again()
    assert (rented.row.state, cloud.count("delete")) == ("running", 0)


def test_and_once_the_api_was_started_anew(rented, cloud, later):
    cloud.machines.clear()
    rented.hang_up()
    look_again()
    later(machines.ABSENCE_SETTLES.total_seconds() + 1)
    machines.begin_anew()
    look_again()
    assert (rented.row.state, cloud.count("delete")) == ("running", 0)


def test_a_reading_that_began_before_the_machine_was_given_back_does_not_bring_it_back(rented, cloud, monkeypatch):
    found = cloud.info

    def info(machine_id):
        machine = found(machine_id)
        Instance.objects.filter(engine=rented.id).update(status="deleting")
        return machine

    monkeypatch.setattr(cloud, "info", info)
    look_again()
    assert Instance.objects.get(engine=rented.id).status == "deleting"


def test_an_extension_of_a_machine_that_is_given_back_meanwhile_costs_nothing(caller, rented, cloud, team, monkeypatch):
    set_end = cloud.set_auto_delete

    def set_auto_delete(*words):
        Instance.objects.filter(engine=rented.id).update(tear_down=True)
        return set_end(*words)

    monkeypatch.setattr(cloud, "set_auto_delete", set_auto_delete)
    before = caller.get("/billing/balance").json()["balance"]
    assert code(ask(caller, rented, 4)) == (400, "extend_failed")
    assert caller.get("/billing/balance").json()["balance"] == before
    check_books(team)


def test_a_machine_that_the_list_still_has_is_not_gone(rented, cloud, monkeypatch, later):
    rented.hang_up()
    monkeypatch.setattr(cloud, "info", lambda machine_id: None)
    look_again()
    later(machines.ABSENCE_SETTLES.total_seconds() + 1)
    look_again()
    assert (rented.row.state, Instance.objects.get(engine=rented.id).missing_since) == ("running", None)


def test_the_balance_is_shown_in_microcents(caller, team, funds):
    funds(250)
    assert caller.get("/billing/balance").json()["balance"] == 25_000_000_000


def test_every_change_of_the_balance_can_be_read(caller, rented, team):
    ask(caller, rented, 4)
    entry = caller.post(
        "/billing/transactions/list", {"limit": 1, "sort": [{"field": "number", "dir": "desc"}]}
    ).json()["items"][0]
    assert (entry["kind"], entry["amount"], entry["additional_hours"]) == ("extend", -4 * HOUR, "4")
    assert entry["balance"] == Team.objects.get(pk=team.pk).balance_microcents
