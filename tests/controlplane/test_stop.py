"""Stop: nothing that runs is cut, and a machine is given back for certain."""

from engines.controlplane import cloud as machines
from engines.controlplane.models import Instance, Task
from engines.enums import TaskStatus
from tests.controlplane.conftest import kinds, look_again


def status(caller, agent):
    return caller.get(f"/engines/{agent.id}").json()["status"]


def test_what_runs_is_finished_before_a_connected_engine_stops(caller, agent, running):
    assert caller.post(f"/engines/{agent.id}/stop").json()["status"] == "stopping"
    assert kinds(agent.due()) == ["drain"]
    assert agent.report_drained() == []
    agent.finish(running)
    assert kinds(agent.report_drained()) == ["shutdown"]
    assert status(caller, agent) == "stopped"
    assert Task.objects.get(pk=running.pk).status == TaskStatus.COMPLETED


def test_a_stop_takes_over_a_drain_that_was_told(caller, agent, running):
    caller.post(f"/engines/{agent.id}/drain")
    assert kinds(agent.due()) == ["drain"]
    assert caller.post(f"/engines/{agent.id}/stop").json()["status"] == "stopping"
    assert agent.due() == []
    agent.finish(running)
    assert kinds(agent.report_drained(epoch=1)) == ["shutdown"]
    assert status(caller, agent) == "stopped"


def test_a_drain_while_it_stops_is_refused(caller, agent):
    caller.post(f"/engines/{agent.id}/stop")
    answer = caller.post(f"/engines/{agent.id}/drain")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "conflict")
    assert status(caller, agent) == "stopping"


def test_stopping_twice_changes_nothing(caller, agent):
    caller.post(f"/engines/{agent.id}/stop")
    assert caller.post(f"/engines/{agent.id}/stop").status_code == 200
    assert agent.row.drain_epoch == 1


def test_one_that_was_lost_while_it_stopped_is_stopped_at_once_by_a_second_stop(caller, agent, running, later):
    caller.post(f"/engines/{agent.id}/stop")
    agent.hang_up()
    assert caller.post(f"/engines/{agent.id}/stop").json()["status"] == "stopping"  # it may be back in a moment
    later(100)
    assert caller.post(f"/engines/{agent.id}/stop").json()["status"] == "stopped"
    running.refresh_from_db()
    assert (running.status, caller.delete(f"/engines/{agent.id}").status_code) == (TaskStatus.FAILED, 204)


def test_the_machine_of_one_that_was_lost_while_it_stopped_is_given_back(caller, rented, cloud, later):
    caller.post(f"/engines/{rented.id}/stop")
    rented.hang_up()
    later(100)
    for _ in range(2):
        assert caller.post(f"/engines/{rented.id}/stop").json()["status"] == "stopping"
    assert rented.row.drain_epoch == 2
    look_again()
    assert (status(caller, rented), cloud.count("delete")) == ("stopped", 1)


def test_a_stop_while_the_cloud_is_read_is_not_put_off(caller, rented, cloud):
    rented.hang_up()
    info = cloud.info

    def slowly(machine_id):
        caller.post(f"/engines/{rented.id}/stop")
        return info(machine_id)

    cloud.info = slowly
    look_again()
    machines.look_around()
    assert cloud.count("delete") == 1


def test_an_engine_that_is_away_is_stopped_at_once(caller, agent):
    agent.hang_up()
    assert caller.post(f"/engines/{agent.id}/stop").json()["status"] == "stopped"


def test_what_ran_on_an_engine_that_is_away_ends_or_runs_elsewhere_as_it_asked(caller, agent, give):
    stays, moves = give(), give(on_engine_loss="requeue")
    agent.accept(stays)
    agent.accept(moves)
    agent.hang_up()
    caller.post(f"/engines/{agent.id}/stop")
    stays.refresh_from_db()
    moves.refresh_from_db()
    assert (stays.status, moves.status) == (TaskStatus.FAILED, TaskStatus.QUEUED)
    assert "not connected" in stays.error


def test_one_that_was_stopped_while_away_is_told_when_it_comes_back(caller, agent):
    agent.hang_up()
    caller.post(f"/engines/{agent.id}/stop")
    agent.connect()
    assert kinds(agent.due()) == ["drain"]
    assert kinds(agent.report_drained()) == ["shutdown"]
    assert status(caller, agent) == "stopped"


def test_a_stopped_engine_runs_again_when_its_process_is_started_anew(caller, agent):
    agent.hang_up()
    caller.post(f"/engines/{agent.id}/stop")
    agent.come_back(caller)
    assert status(caller, agent) == "running"


def test_the_machine_of_a_stopped_cloud_engine_is_given_back(caller, rented, cloud):
    caller.post(f"/engines/{rented.id}/stop")
    rented.report_drained()
    assert status(caller, rented) == "stopping"
    look_again()
    shown = caller.get(f"/engines/{rented.id}").json()
    assert (shown["status"], shown["instance"]["status"], cloud.count("delete")) == ("stopped", "deleting", 1)
    cloud.machines.clear()
    look_again()
    assert caller.get(f"/engines/{rented.id}").json()["instance"]["status"] == "deleted"


def test_a_machine_that_is_not_taken_back_keeps_the_engine_stopping_and_is_tried_again(caller, rented, cloud):
    cloud.fail["delete"] = "refuse"
    rented.hang_up()
    assert caller.post(f"/engines/{rented.id}/stop").json()["status"] == "stopping"
    look_again()
    look_again()
    shown = caller.get(f"/engines/{rented.id}").json()
    assert (shown["status"], shown["instance"]["status"], cloud.count("delete")) == ("stopping", "active", 2)
    assert "no machines today" in shown["instance"]["error"]
    cloud.fail.clear()
    look_again()
    assert status(caller, rented) == "stopped"


def test_a_delete_without_an_answer_is_repeated(caller, rented, cloud):
    cloud.fail["delete"] = "lose_answer"
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/stop")
    look_again()
    cloud.fail.clear()
    look_again()
    assert (status(caller, rented), cloud.count("delete")) == ("stopped", 2)


def test_a_stop_gives_back_the_machine_of_an_engine_that_was_drained(caller, rented, cloud):
    caller.post(f"/engines/{rented.id}/drain")
    rented.report_drained()
    assert (status(caller, rented), Instance.objects.get().tear_down) == ("stopped", False)
    caller.post(f"/engines/{rented.id}/stop")
    look_again()
    assert cloud.count("delete") == 1


def test_a_process_that_comes_up_on_a_machine_on_its_way_out_does_not_run(caller, rented, cloud):
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/stop")
    look_again()
    rented.come_back(caller)
    assert status(caller, rented) == "stopped"
    assert kinds(rented.due()) == ["drain"]


def test_the_key_of_a_machine_that_is_gone_opens_nothing(caller, rented, cloud):
    rented.hang_up()
    caller.post(f"/engines/{rented.id}/stop")
    look_again()
    cloud.machines.clear()
    look_again()
    assert Instance.objects.get().key.revoked_at is not None
