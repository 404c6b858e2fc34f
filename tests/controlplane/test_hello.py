"""After any reconnect: what the engine holds against what the rows say, before anything else happens."""

import pytest

from engines import wire
from engines.controlplane import dispatch, sessions
from engines.controlplane.models import Engine
from engines.controlplane.sessions import CLOSE_RESTART, Over
from engines.enums import TaskStatus
from tests.controlplane.conftest import Agent, events, kinds, result


def again(task):
    task.refresh_from_db()
    return task


def test_the_first_hello_makes_the_engine_run(team, caller):
    agent = Agent(team)
    agent.register(caller)
    assert agent.connect() == [{"type": "welcome", "data": {"engine_id": agent.id}}]
    assert agent.row.status == "running"


def test_nothing_is_given_to_an_engine_before_its_hello(team, caller, queue):
    Agent(team).register(caller)
    task = queue()
    dispatch.run()
    assert (again(task).status, task.waiting_for) == (TaskStatus.QUEUED, "no_active_worker")


def test_nothing_is_requeued_when_the_connection_goes(agent, give, running):
    given = give()
    agent.hang_up()
    dispatch.run()
    assert (again(given).status, again(running).status) == (TaskStatus.DISPATCHED, TaskStatus.RUNNING)


def test_what_runs_is_confirmed_and_not_sent_again(agent, give):
    task = give()
    agent.hang_up()
    agent.connect(running=[task])
    assert again(task).status == TaskStatus.RUNNING
    assert agent.due() == []


def test_what_never_arrived_goes_back_to_the_queue(agent, give):
    task = give()
    agent.hang_up()
    agent.connect()
    assert (again(task).status, task.worker_id) == (TaskStatus.QUEUED, None)
    assert events(task)[-1] == ("requeued", "the engine never started it")


def test_a_task_that_ran_in_a_process_that_died_has_failed(caller, agent, running):
    agent.boot = "boot-2"
    agent.register(caller)
    agent.connect()
    assert (again(running).status, running.error) == (
        TaskStatus.FAILED,
        "the engine restarted while this task ran",
    )


def test_a_task_may_ask_to_run_again_instead(caller, agent, give):
    task = give(on_engine_loss="requeue")
    agent.accept(task)
    agent.boot = "boot-2"
    agent.register(caller)
    agent.connect()
    assert again(task).status == TaskStatus.QUEUED
    assert events(task)[-1] == ("requeued", "the engine restarted while this task ran")


def test_results_are_recorded_and_acknowledged(agent, running):
    agent.hang_up()
    replies = agent.connect(results=[result(running, output={"ok": True})])
    assert kinds(replies) == ["result_ack", "welcome"]
    assert (again(running).status, running.output) == (TaskStatus.COMPLETED, {"ok": True})


def test_a_result_that_came_twice_changes_nothing(agent, running):
    agent.finish(running, output=1)
    agent.hang_up()
    assert kinds(agent.connect(results=[result(running, output=2)])) == ["result_ack", "welcome"]
    assert again(running).output == 1


def test_a_cancelled_task_that_the_engine_does_not_have_is_over(caller, agent, running):
    caller.post(f"/tasks/{running.pk}/cancel")
    agent.hang_up()
    agent.connect()
    assert again(running).status == TaskStatus.CANCELLED


def test_a_cancelled_task_that_still_runs_is_cancelled_again(caller, agent, running):
    caller.post(f"/tasks/{running.pk}/cancel")
    agent.due()
    agent.hang_up()
    agent.connect(running=[running])
    assert kinds(agent.due()) == ["cancel"]


def test_the_newest_connection_wins(agent):
    old = agent.session
    agent.connect()
    newer, agent.session = agent.session, old
    with pytest.raises(Over) as over:
        agent.due()
    assert (over.value.code, agent.row.session) == (wire.CLOSE_REPLACED, newer.id)


def test_the_end_of_an_old_connection_does_not_touch_the_new_one(agent):
    old = agent.session
    agent.connect()
    sessions.end(old)
    assert agent.row.session == agent.session.id


def test_a_restart_lets_go_of_the_sessions_of_this_address_only(agent, team, caller):
    other = Agent(team, name="gpu-2")
    other.register(caller)
    other.connect()
    Engine.objects.filter(pk=other.id).update(held_by="elsewhere:8001")
    assert sessions.forget_own() == 1
    assert (agent.row.status, other.row.status) == ("disconnected", "running")


def test_after_a_restart_a_connection_that_lives_on_is_asked_to_come_again(agent):
    sessions.forget_own()
    with pytest.raises(Over) as over:
        agent.due()
    assert over.value.code == CLOSE_RESTART


def test_a_silent_engine_is_let_go_of(agent, later):
    later(seconds=2 * wire.DEAD_AFTER_SECONDS + 1)
    sessions.forget_silent()
    assert agent.row.status == "disconnected"
