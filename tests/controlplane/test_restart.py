"""Restart: a cloud engine's machine, once, and after what runs on it."""

from engines import wire
from engines.controlplane import restart
from tests.controlplane.conftest import kinds, look_again

ONLY = {wire.ONLY_IF_CONNECTED.replace("-", "_"): "true"}


def status(caller, agent):
    return caller.get(f"/engines/{agent.id}").json()["status"]


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def test_an_engine_of_ones_own_cannot_be_restarted_from_here(caller, agent):
    assert code(caller.post(f"/engines/{agent.id}/restart")) == (409, "restart_unsupported")


def test_what_runs_is_finished_first(caller, rented, cloud):
    assert caller.post(f"/engines/{rented.id}/restart").json()["status"] == "draining"
    look_again()
    assert cloud.count("restart") == 0
    assert kinds(rented.report_drained()) == ["shutdown"]
    look_again()
    assert (status(caller, rented), cloud.count("restart")) == ("restarting", 1)
    rented.come_back(caller)
    assert status(caller, rented) == "running"


def test_an_engine_that_is_away_is_restarted_at_once(caller, rented, cloud):
    rented.hang_up()
    assert caller.post(f"/engines/{rented.id}/restart").json()["status"] == "restarting"
    look_again()
    assert cloud.count("restart") == 1


def test_one_that_lost_its_connection_is_left_alone_where_that_was_not_meant(caller, rented, cloud):
    rented.hang_up()
    assert code(caller.post(f"/engines/{rented.id}/restart", **ONLY)) == (409, "engine_offline")
    look_again()
    assert (status(caller, rented), cloud.count("restart")) == ("disconnected", 0)


def test_a_connected_one_is_restarted_as_ever(caller, rented, cloud):
    assert caller.post(f"/engines/{rented.id}/restart", **ONLY).json()["status"] == "draining"


def test_a_drained_cloud_engine_comes_back_by_a_restart(caller, rented, cloud):
    caller.post(f"/engines/{rented.id}/drain")
    rented.report_drained()
    rented.hang_up()
    assert caller.post(f"/engines/{rented.id}/restart").json()["status"] == "restarting"
    look_again()
    rented.come_back(caller)
    assert (status(caller, rented), cloud.count("restart")) == ("running", 1)


def test_a_restart_without_an_answer_is_not_sent_again(caller, rented, cloud):
    cloud.fail["restart"] = "lose_answer"
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/restart")
    caller.post(f"/engines/{rented.id}/restart")
    look_again()
    look_again()
    assert (cloud.count("restart"), status(caller, rented)) == (1, "restarting")


def test_a_restart_that_the_cloud_refuses_says_so(caller, rented, cloud):
    cloud.fail["restart"] = "refuse"
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/restart")
    look_again()
    shown = caller.get(f"/engines/{rented.id}").json()
    assert shown["status"] == "disconnected"
    assert "not restarted" in shown["instance"]["error"]


def test_an_engine_that_does_not_come_back_is_called_disconnected(caller, rented, cloud, later):
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/restart")
    later(16 * 60)
    restart.give_up()
    assert status(caller, rented) == "disconnected"


def test_a_restart_while_it_drains_or_stops_is_refused(caller, rented, cloud):
    caller.post(f"/engines/{rented.id}/drain")
    assert code(caller.post(f"/engines/{rented.id}/restart")) == (409, "conflict")
    caller.post(f"/engines/{rented.id}/stop")
    assert code(caller.post(f"/engines/{rented.id}/restart")) == (409, "conflict")
