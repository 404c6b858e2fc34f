"""What an engine says after its hello, and what it may not say."""

import json

import pytest

from engines.controlplane import dispatch, frames
from engines.controlplane.models import ApiKey
from engines.controlplane.sessions import Over
from engines.controlplane.tasks import LOG_KEPT
from engines.enums import TaskStatus
from tests.controlplane.conftest import events, kinds, result


def again(task):
    task.refresh_from_db()
    return task


def test_an_accepted_task_runs(agent, give):
    task = give()
    agent.accept(task)
    assert (again(task).status, task.boot_id) == (TaskStatus.RUNNING, "boot-1")


def test_accepting_twice_changes_nothing(agent, running):
    agent.accept(running)
    assert [kind for kind, _ in events(running)].count("accepted") == 1


def test_another_engines_task_is_not_accepted(agent, queue):
    task = queue()
    agent.accept(task)
    assert again(task).status == TaskStatus.QUEUED


def test_progress_message_and_output_are_kept(caller, agent, running):
    agent.say(frames.TaskUpdate(task_id=running.pk, progress=0.5, message="half", log="line\n"))
    body = caller.get(f"/tasks/{running.pk}").json()
    assert (body["progress"], body["message"]) == (0.5, "half")
    assert [event["text"] for event in body["events"] if event["kind"] == "log"] == ["line\n"]


def test_output_is_capped_and_that_is_said_once(agent, running):
    for _ in range(3):
        agent.say(frames.TaskUpdate(task_id=running.pk, log="x" * (LOG_KEPT // 2 + 1)))
    kept = [text for kind, text in events(running) if kind == "log"]
    assert len(kept) == 2
    assert sum(text.count("x") for text in kept) == LOG_KEPT
    assert kept[-1].endswith("[more output was not kept]")


@pytest.mark.parametrize(("status", "ends"), [("completed", 10), ("failed", 11), ("cancelled", 12)])
def test_a_result_ends_the_task(agent, running, status, ends):
    agent.finish(running, status, error="why" if status == "failed" else "")
    assert (again(running).status, running.finished_at is not None) == (ends, True)


def test_a_result_of_an_unknown_task_is_acknowledged_so_that_nothing_holds_it(agent, queue):
    assert kinds(agent.say(frames.Result(task_id="task_none", status="completed"))) == ["result_ack"]


def test_a_late_result_does_not_overwrite_and_is_noted(agent, running):
    agent.finish(running, "failed", error="first")
    assert kinds(agent.finish(running, "completed", output=1)) == ["result_ack"]
    assert (again(running).status, running.error) == (TaskStatus.FAILED, "first")
    assert events(running)[-1][0] == "late"


def test_a_result_of_another_teams_task_is_not_used(agent, queue, outsider):
    theirs = queue(team=ApiKey.objects.get(name="theirs").team)
    agent.finish(theirs, output=1)
    assert again(theirs).status == TaskStatus.QUEUED


def test_a_task_that_no_worker_can_run_fails_at_once(agent, give):
    task = give()
    agent.reject(task, "unknown_app")
    assert (again(task).status, task.error) == (TaskStatus.FAILED, "the engine cannot run it: unknown_app")


def test_a_refusal_of_a_task_that_runs_is_nothing(agent, running):
    agent.reject(running, "worker_busy")
    assert again(running).status == TaskStatus.RUNNING


def test_a_refused_task_waits_a_moment_before_the_next_try(agent, give):
    task = give()
    agent.reject(task, "worker_busy")
    dispatch.run()
    assert (again(task).status, task.not_before > task.updated_at) == (TaskStatus.QUEUED, True)


def test_an_engine_that_refuses_because_its_host_stops_it_gets_no_more(agent, give, queue):
    agent.reject(give(), "engine_draining")
    task = queue()
    dispatch.run()
    assert (again(task).status, agent.row.mode) == (TaskStatus.QUEUED, "draining")


def test_the_mode_of_a_heartbeat_is_noted(agent):
    agent.say(frames.Heartbeat(mode="draining"))
    assert agent.row.mode == "draining"


def test_a_second_hello_ends_the_connection(agent):
    with pytest.raises(Over, match="second hello"):
        agent.say(frames.Hello())


def test_a_revoked_key_ends_the_connection(agent):
    ApiKey.objects.filter(pk=agent.session.key_id).update(revoked_at="2026-01-01T00:00Z")
    with pytest.raises(Over, match="revoked"):
        agent.due()


def test_a_given_task_is_sent_once_with_all_it_needs(agent, queue):
    task = queue(input={"seconds": 3})
    dispatch.run()
    worker = again(task).worker_id
    wanted = {"task_id": task.pk, "worker_id": worker, "app": "sleep", "input": {"seconds": 3}}
    assert agent.due() == [{"type": "task", "data": wanted}]
    assert agent.due() == []


def test_a_task_that_comes_back_is_sent_again(agent, give):
    task = give()
    agent.reject(task, "worker_busy")
    task.__class__.objects.update(not_before=task.created_at)
    dispatch.run()
    assert kinds(agent.due()) == ["task"]


def test_a_running_task_is_cancelled_once(caller, agent, running):
    assert caller.post(f"/tasks/{running.pk}/cancel").json()["status"] == TaskStatus.CANCELLING
    assert (kinds(agent.due()), agent.due()) == (["cancel"], [])


def test_a_task_cancelled_before_it_was_sent_is_over(caller, agent, queue):
    task = queue()
    dispatch.run()
    caller.post(f"/tasks/{task.pk}/cancel")
    assert agent.due() == []
    assert again(task).status == TaskStatus.CANCELLED


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"type": "gossip"}',
        '{"type": ["hello"]}',
        '{"type": "drained", "data": {"epoch": "soon"}}',
        '{"type": "task_result", "data": {"task_id": "t", "status": "perhaps"}}',
        '{"type": "hello", "data": {"running": [7]}}',
        "[" * 100_000,
    ],
)
def test_a_frame_that_is_none(text):
    with pytest.raises(frames.BadFrame):
        frames.read(text)


def test_a_frame_of_a_newer_engine_may_say_more():
    assert frames.read('{"type": "heartbeat", "data": {"mode": "running", "mood": "good"}}').mode == "running"


def test_a_result_with_what_a_database_refuses_still_finds_its_row(agent, running):
    said = {"task_id": running.pk, "status": "completed", "output": "a\0b\ud800c"}
    agent.say(frames.read(json.dumps({"type": "task_result", "data": said})))
    assert again(running).output == "a\ufffdb?c"


def test_a_result_that_no_database_holds_as_it_is_still_finds_its_row(agent, running):
    deep = "[" * 500 + "]" * 500
    data = f'{{"task_id": "{running.pk}", "status": "completed", "output": {{"deep": {deep}, "much": [1e400, 1]}}}}'
    agent.say(frames.read(f'{{"type": "task_result", "data": {data}}}'))
    assert again(running).output["much"] == [None, 1]


def test_no_result_is_too_many_for_a_hello():
    many = [{"task_id": f"t{number}", "status": "completed"} for number in range(5000)]
    assert len(frames.read(json.dumps({"type": "hello", "data": {"results": many}})).results) == 5000


def test_a_result_may_be_read_as_it_is_sent(running):
    assert frames.Result(**result(running)).output is None
