"""Looks at rented machines: one at a time, however slow the cloud is, and none that cuts what runs."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from engines.controlplane import cloud as machines
from engines.controlplane import restart
from engines.controlplane.models import Extension, Instance
from engines.controlplane.providers.shadeform import CONNECT_SECONDS, Shadeform
from engines.enums import TaskStatus
from tests.controlplane.conftest import check_books, kinds, look_again

# Connecting, with TLS, sending, waiting for the answer's head and for its body.
LONGEST_REQUEST = 2 * CONNECT_SECONDS + 3 * Shadeform("key")._timeout
ABSENT = machines.ABSENCE_SETTLES.total_seconds() + 1


def order(caller):
    body = {
        "name": "new",
        "instance": {"cloud": "local", "region": "here", "shade_instance_type": "cpu-2"},
        "auto_delete": {"date_threshold": (now() + timedelta(hours=10)).isoformat()},
    }
    return caller.post("/engines", body).json()


class Slow:
    """Has each request to the cloud take as long as one can, while other processes look after the machines."""

    def __init__(self, cloud, later):
        self.cloud, self.later = cloud, later
        self.passed, self.busy, self.at_once = 0, False, []
        for name, requests in {
            "create": 1,
            "find": 1,
            "info": 1,
            "restart": 1,
            "set_auto_delete": 1,
            "delete": 2,
        }.items():
            setattr(cloud, name, self._slow(name, getattr(cloud, name), requests))

    def _slow(self, name, call, requests):
        def slowly(*given):
            if self.busy:
                self.at_once.append(name)
                return None
            self.busy = True
            for _ in range(requests):
                self.passed += LONGEST_REQUEST
                self.later(self.passed)
                machines.look_around()
            self.busy = False
            return call(*given)

        return slowly


@pytest.fixture
def slow(cloud, later):
    return lambda: Slow(cloud, later)


def test_an_order_under_way_is_looked_for_by_nobody_and_sent_once(caller, cloud, funds, team, slow):
    funds(100)
    slowly = slow()
    order(caller)
    look_again()
    assert (slowly.at_once, cloud.count("create"), len(cloud.machines)) == ([], 1, 1)
    check_books(team)


def test_an_order_whose_process_slept_is_found_by_another_and_sent_once(caller, cloud, funds, team, later):
    funds(100)
    create = cloud.create

    def sleepy(wanted):
        made = create(wanted)
        later(machines.LOOK_LEASE.total_seconds() + 1)
        machines.look_around()
        return made

    cloud.create = sleepy
    order(caller)
    look_again()
    assert (cloud.count("create"), cloud.count("find"), Instance.objects.get().machine_id) == (1, 1, "m-1")
    check_books(team)


def test_a_machine_that_its_cloud_did_not_delete_is_deleted_again_by_one_process_alone(rented, cloud, slow):
    Instance.objects.filter(engine=rented.id).update(status="deleting", tear_down=True)
    cloud.info = lambda machine_id: None
    slowly = slow()
    look_again()
    assert (slowly.at_once, cloud.count("find"), cloud.count("delete")) == ([], 1, 1)


def test_a_machine_that_vanished_is_given_up_by_one_process_alone(rented, cloud, later, slow):
    rented.hang_up()
    cloud.machines.clear()
    look_again()
    Instance.objects.filter(engine=rented.id).update(missing_since=now() - machines.ABSENCE_SETTLES)
    slowly = slow()
    look_again()
    assert (slowly.at_once, cloud.count("delete"), rented.row.state) == ([], 1, "stopped")


def test_who_slept_between_two_calls_does_not_act_on_what_it_read(rented, cloud, later):
    """Another process looked meanwhile, and found the machine."""
    rented.hang_up()
    Instance.objects.filter(engine=rented.id).update(missing_since=now() - machines.ABSENCE_SETTLES)
    info, calls = cloud.info, []

    def sleepy(machine_id):
        calls.append("info")
        if len(calls) > 1:
            return info(machine_id)
        later(machines.LOOK_LEASE.total_seconds() + 1)
        machines.look_around()
        return None

    cloud.info = sleepy
    cloud.find = lambda name: None
    look_again()
    assert (cloud.count("delete"), rented.row.state, Instance.objects.get().missing_since) == (0, "running", None)


def test_what_is_asked_for_during_a_look_is_done_at_once(caller, rented, cloud):
    rented.hang_up()

    def lost(machine_id):
        caller.post(f"/engines/{rented.id}/stop")

    cloud.info = lost
    look_again()
    assert Instance.objects.get().next_at <= now()


def test_an_engine_that_connects_while_its_machine_is_given_up_gets_no_task(caller, rented, cloud, later, queue):
    """Its key has ended by then; before, its machine was not asked to be deleted."""
    rented.hang_up()
    cloud.machines.clear()
    look_again()
    later(ABSENT)
    states = []
    cloud.delete = lambda machine_id: states.append((rented.row.state, Instance.objects.get().key.revoked_at is None))
    look_again()
    assert states == [("stopped", False)]


def test_a_machine_whose_deletion_fails_after_it_vanished_is_deleted_again(rented, cloud, later):
    rented.hang_up()
    cloud.machines.clear()
    look_again()
    later(ABSENT)
    cloud.fail["delete"] = "lose"
    look_again()
    assert (rented.row.state, Instance.objects.get().status) == ("stopped", "active")
    cloud.fail.clear()
    look_again()
    look_again()
    assert (cloud.count("delete"), Instance.objects.get().status) == (2, "deleted")


@pytest.mark.parametrize("gave_up", [False, True])
def test_an_engine_that_came_back_before_the_cloud_was_asked_is_not_restarted(
    caller, rented, cloud, later, give, gave_up
):
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/restart")
    if gave_up:  # the API was away for so long, and the engine's process was not
        later(16 * 60)
        restart.give_up()
        rented.connect()
    else:
        rented.come_back(caller)
    task = give(infra="cloud")
    look_again()
    look_again()
    task.refresh_from_db()
    assert (cloud.count("restart"), rented.row.state, task.status) == (0, "running", TaskStatus.DISPATCHED)


def test_an_engine_that_is_back_with_its_task_finishes_it_before_its_machine_is_restarted(caller, rented, cloud, give):
    task = give(infra="cloud")
    rented.accept(task)
    rented.hang_up()
    assert caller.post(f"/engines/{rented.id}/restart").json()["status"] == "restarting"
    rented.connect(running=[task])
    look_again()
    assert (cloud.count("restart"), kinds(rented.due())) == (0, ["drain"])
    rented.finish(task)
    rented.report_drained()
    look_again()
    task.refresh_from_db()
    assert (cloud.count("restart"), rented.row.state, task.status) == (1, "restarting", TaskStatus.COMPLETED)


@pytest.mark.parametrize("why", ["came back before", "no room"])
def test_that_it_was_not_restarted_is_said_for_a_minute(caller, rented, cloud, later, why):
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/restart")
    if why == "no room":
        cloud.fail["restart"] = "refuse"
    else:
        rented.come_back(caller)
    later(0)
    look_again()
    said = caller.get(f"/engines/{rented.id}").json()["instance"]["error"]
    assert said.startswith("it was not restarted: ")
    later(55)
    machines.look_around()
    assert caller.get(f"/engines/{rented.id}").json()["instance"]["error"] == said


# The end that the cloud was told


@pytest.fixture
def told(rented, cloud):
    """Have the cloud say that it deletes the machine so many seconds before the end that is paid; read again."""

    def _told(seconds, text=None):
        end = Instance.objects.get().delete_at - timedelta(seconds=seconds)
        cloud.machines["m-1"]["facts"] = {"auto_delete": {"date_threshold": text or end.isoformat()}}
        look_again()
        return cloud.ends["m-1"]

    return _told


def test_a_call_of_an_extension_that_arrives_after_the_next_ones_takes_no_paid_time(caller, rented, cloud, told):
    first = cloud.ends["m-1"] + timedelta(hours=1)
    for _ in range(2):
        caller.post(f"/engines/{rented.id}/extend", {"additional_hours": 1})
    cloud.ends["m-1"] = first
    assert told(3600) == first + timedelta(hours=1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, None), (59, None), (-60, None), (3600, "soon"), (3600, "2020-13-01")]
)
def test_an_end_that_is_late_enough_or_cannot_be_read_is_left_alone(cloud, told, seconds, text):
    told(seconds, text)
    assert cloud.count("set_auto_delete") == 0


def test_an_end_whose_extension_is_being_settled_is_left_alone(caller, rented, cloud, told):
    cloud.fail["set_auto_delete"] = "lose"
    caller.post(f"/engines/{rented.id}/extend", {"additional_hours": 1})
    told(3600)
    assert (cloud.count("set_auto_delete"), Extension.objects.get().state) == (1, "held")


def test_a_cloud_that_refuses_the_paid_end_is_asked_again_a_minute_later_and_it_shows(caller, rented, cloud, told):
    cloud.fail["set_auto_delete"] = "refuse"
    told(3600)
    assert "before its paid time is over" in caller.get(f"/engines/{rented.id}").json()["instance"]["error"]
    machines.look_around()
    assert cloud.count("set_auto_delete") == 1
    assert Instance.objects.get().next_at > now() + timedelta(seconds=50)


def test_a_cloud_that_goes_on_naming_an_early_end_is_told_once_a_minute(rented, cloud, told, later):
    later(0)
    told(3600)
    for seconds in (30, 59, 61):
        later(seconds)
        machines.look_around()
    assert cloud.count("set_auto_delete") == 2


def test_a_machine_whose_cloud_was_told_its_end_is_looked_at_when_that_has_come(rented, cloud, told):
    Instance.objects.update(delete_at=now() + timedelta(seconds=20))
    told(3600)
    machine = Instance.objects.get()
    assert (cloud.count("set_auto_delete"), machine.next_at) == (1, machine.delete_at)
