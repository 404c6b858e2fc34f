"""The drain protocol (RELIABILITY.md 4.4). Each test fails when its rule is taken out."""

import pytest

from engines.controlplane import dispatch
from engines.controlplane.enums import EngineState
from engines.controlplane.models import Engine
from engines.controlplane.sessions import Over
from engines.enums import TaskStatus
from tests.controlplane.conftest import events, kinds, result


def drain(caller, agent):
    return caller.post(f"/engines/{agent.id}/drain")


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


# Rule 1: the request


def test_it_is_marked_before_it_is_answered(caller, agent):
    answer = drain(caller, agent)
    assert (answer.status_code, answer.json()["status"], agent.row.drain_epoch) == (200, "draining", 1)


def test_asked_twice_nothing_changes(caller, agent):
    first = drain(caller, agent).json()
    second = drain(caller, agent)
    assert (second.status_code, second.json()) == (200, first)
    assert agent.row.drain_epoch == 1


def test_asked_again_of_a_lost_draining_engine_nothing_changes(caller, agent):
    drain(caller, agent)
    agent.hang_up()
    assert drain(caller, agent).status_code == 200
    assert (agent.row.state, agent.row.drain_epoch) == (EngineState.DRAINING, 1)


def test_an_engine_without_a_connection_is_offline_and_unmarked(caller, agent):
    agent.hang_up()
    assert code(drain(caller, agent)) == (409, "engine_offline")
    assert (agent.row.state, agent.row.drain_epoch) == (EngineState.RUNNING, 0)


@pytest.mark.parametrize("state", [EngineState.PENDING, EngineState.STOPPED])
def test_an_engine_that_does_not_run_is_offline(caller, agent, state):
    Engine.objects.update(state=state)
    assert code(drain(caller, agent)) == (409, "engine_offline")
    assert agent.row.state == state


# Rule 2: nothing new


def test_a_draining_engine_gets_no_task(caller, agent, queue):
    drain(caller, agent)
    task = queue()
    dispatch.run()
    task.refresh_from_db()
    assert (task.status, task.waiting_for) == (TaskStatus.QUEUED, "engine_draining")
    assert ("waiting", "engine_draining") in events(task)


def test_dispatch_reads_the_state_again_in_its_own_transaction(caller, agent, queue):
    seat = dispatch.seats(agent.team.pk)[0]
    drain(caller, agent)
    assert dispatch.assign(queue(), seat) is False


def test_a_task_aimed_at_it_waits_while_others_go_elsewhere(caller, agent, queue):
    drain(caller, agent)
    aimed = queue(targets=["gpu-1-cpu-0"])
    dispatch.run()
    dispatch.run()
    aimed.refresh_from_db()
    assert aimed.status == TaskStatus.QUEUED
    assert events(aimed) == [("waiting", "engine_draining")]


# Rule 3: the order, given until it is obeyed


def test_the_order_is_sent_with_its_epoch(caller, agent):
    drain(caller, agent)
    assert agent.due() == [{"type": "drain", "data": {"epoch": 1}}]


def test_the_order_is_sent_once_a_connection(caller, agent):
    drain(caller, agent)
    agent.due()
    assert agent.due() == []


def test_the_order_is_sent_again_after_every_reconnect(caller, agent):
    drain(caller, agent)
    agent.due()
    agent.hang_up()
    assert kinds(agent.connect()) == ["welcome"]
    assert kinds(agent.due()) == ["drain"]


def test_a_task_given_before_the_drain_is_sent_before_it(caller, agent, queue):
    queue()
    dispatch.run()
    drain(caller, agent)
    assert kinds(agent.due()) == ["task", "drain"]


def test_a_refused_task_goes_back_to_the_queue_with_the_reason(caller, agent, give):
    task = give()
    drain(caller, agent)
    agent.reject(task, "engine_draining")
    task.refresh_from_db()
    assert (task.status, task.engine_id, task.waiting_for) == (TaskStatus.QUEUED, None, "engine_draining")
    assert ("rejected", "engine_draining") in events(task)


# Rule 5: drained is what the engine says and the rows confirm


def test_a_report_for_this_drain_stops_the_engine_and_lets_it_go(caller, agent):
    drain(caller, agent)
    assert agent.report_drained(1) == [{"type": "shutdown", "data": {"epoch": 1}}]
    assert (agent.row.state, agent.row.drained_epoch, agent.row.status) == (EngineState.STOPPED, 1, "stopped")


def test_an_idle_engine_is_not_drained_before_it_says_so(caller, agent):
    drain(caller, agent)
    agent.due()
    dispatch.run()
    assert agent.row.state == EngineState.DRAINING


@pytest.mark.parametrize("epoch", [2, 7])
def test_a_report_for_another_drain_is_nothing(caller, agent, epoch):
    drain(caller, agent)
    assert agent.report_drained(epoch) == []
    assert agent.row.state == EngineState.DRAINING


def test_a_report_without_a_drain_is_nothing(agent):
    assert agent.report_drained(1) == []
    assert agent.row.state == EngineState.RUNNING


def test_a_running_task_forbids_the_end(caller, agent, running):
    drain(caller, agent)
    assert agent.report_drained() == []
    assert agent.row.state == EngineState.DRAINING


def test_a_task_that_was_given_but_not_accepted_forbids_the_end(caller, agent, give):
    give()
    drain(caller, agent)
    assert agent.report_drained() == []
    assert agent.row.state == EngineState.DRAINING


def test_after_a_report_that_came_too_early_it_is_asked_again_once_the_work_is_gone(caller, agent, running):
    drain(caller, agent)
    agent.due()
    agent.report_drained()
    assert agent.due() == []
    agent.finish(running)
    assert kinds(agent.due()) == ["drain"]


def test_the_running_task_keeps_its_result(caller, agent, running):
    drain(caller, agent)
    assert agent.finish(running, output={"x": 1}) == [{"type": "result_ack", "data": {"task_id": running.pk}}]
    agent.report_drained()
    assert caller.get(f"/tasks/{running.pk}").json()["output"] == {"x": 1}
    assert agent.row.state == EngineState.STOPPED


def test_a_repeated_report_is_answered_again(caller, agent):
    drain(caller, agent)
    agent.report_drained()
    assert kinds(agent.report_drained()) == ["shutdown"]


def test_when_the_answer_was_lost_it_is_given_after_the_reconnect(caller, agent):
    drain(caller, agent)
    agent.report_drained()
    agent.hang_up()
    agent.connect(mode="draining", drain_epoch=1)
    assert agent.due() == [{"type": "shutdown", "data": {"epoch": 1}}]


def test_a_report_on_an_old_connection_is_nothing(caller, agent):
    drain(caller, agent)
    old = agent.session
    agent.connect()
    agent.session = old
    with pytest.raises(Over):
        agent.report_drained()
    assert agent.row.state == EngineState.DRAINING


# Over a life


def test_a_lost_engine_never_counts_as_drained(caller, agent, running):
    drain(caller, agent)
    agent.hang_up()
    dispatch.run()
    running.refresh_from_db()
    assert (agent.row.status, running.status) == ("disconnected", TaskStatus.RUNNING)


def test_a_process_that_forgot_the_drain_is_told_again(caller, agent):
    drain(caller, agent)
    agent.hang_up()
    agent.boot = "boot-2"
    agent.register(caller)
    agent.connect(mode="running", drain_epoch=0)
    assert kinds(agent.due()) == ["drain"]
    assert kinds(agent.report_drained()) == ["shutdown"]


def test_the_next_life_is_drained_by_an_epoch_of_its_own(caller, agent):
    drain(caller, agent)
    agent.report_drained()
    agent.boot = "boot-2"
    agent.register(caller)
    agent.connect()
    assert agent.due() == []
    drain(caller, agent)
    assert agent.due() == [{"type": "drain", "data": {"epoch": 2}}]
    assert agent.report_drained(1) == []


def test_results_delivered_with_the_hello_count_before_the_end(caller, agent, running):
    drain(caller, agent)
    agent.hang_up()
    agent.connect(results=[result(running, output=7)], mode="draining", drain_epoch=1)
    running.refresh_from_db()
    assert (running.status, running.output) == (TaskStatus.COMPLETED, 7)
    assert kinds(agent.report_drained()) == ["shutdown"]
