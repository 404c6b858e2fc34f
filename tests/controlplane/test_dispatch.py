"""Which task goes where, and what becomes of one that goes nowhere."""

import pytest

from engines.controlplane import dispatch, tasks
from engines.controlplane.enums import MOVES, EventKind
from engines.controlplane.models import Task, Worker
from engines.enums import TaskStatus
from tests.controlplane.conftest import Agent, events


def placed(*given):
    """Where these tasks are now: the workers' names, or why they wait."""
    dispatch.run()
    found = [Task.objects.select_related("worker", "engine").get(pk=task.pk) for task in given]
    return [f"{task.engine}-{task.worker}" if task.worker else task.waiting_for for task in found]


def test_run_queues_a_task(caller):
    answer = caller.post("/run", {"app": "sleep", "input": {"seconds": 1}})
    body = caller.get(f"/tasks/{answer.json()['id']}").json()
    assert (answer.status_code, body["status"], body["app_id"], body["input"]) == (200, 2, "sleep", {"seconds": 1})
    assert [event["kind"] for event in body["events"]] == ["queued"]


def test_the_alias_does_the_same(caller):
    assert caller.post("/apps/run", {"app": "sleep"}).status_code == 200


@pytest.mark.parametrize("body", [{}, {"app": ""}, {"app": "x", "infra": "remote"}, {"app": "x", "workers": "w"}])
def test_run_refuses_what_it_does_not_understand(caller, body):
    assert caller.post("/run", body).status_code == 422


def test_idle_workers_get_one_task_each_oldest_first(agent, queue):
    first, second, third = queue(), queue(), queue()
    assert placed(first, second, third) == ["gpu-1-cpu-0", "gpu-1-cpu-1", "all_workers_busy"]


def test_a_freed_worker_gets_the_next_one(agent, running, queue):
    waiting = [queue(), queue()]
    assert placed(*waiting)[1] == "all_workers_busy"
    agent.finish(running)
    assert placed(waiting[1]) == ["gpu-1-cpu-0"]


@pytest.mark.parametrize("how", ["name", "id"])
def test_a_task_goes_to_the_worker_it_is_aimed_at(agent, queue, how):
    worker = Worker.objects.get(index=1)
    assert placed(queue(targets=["gpu-1-cpu-1" if how == "name" else worker.pk])) == ["gpu-1-cpu-1"]


def test_one_that_waits_for_its_worker_does_not_hold_up_others(agent, running, queue):
    aimed, free = queue(targets=["gpu-1-cpu-0"]), queue()
    assert placed(aimed, free) == ["all_workers_busy", "gpu-1-cpu-1"]


def test_another_teams_engine_is_no_choice(agent, queue, outsider):
    theirs = queue(team=Task._meta.get_field("team").related_model.objects.get(slug="mallory-inc"))
    assert placed(theirs) == ["no_active_worker"]


def test_the_shared_cloud_is_not_here(agent, queue):
    assert placed(queue(infra="cloud"), queue(infra="private")) == ["no_active_worker", "gpu-1-cpu-0"]


def test_a_retired_worker_gets_nothing(agent, caller, queue):
    agent.cpus = 1
    agent.register(caller)
    assert placed(queue(targets=["gpu-1-cpu-1"])) == ["no_active_worker"]


def test_of_two_dispatchers_one_assigns(agent, queue):
    task, seat = queue(), dispatch.seats(agent.team.pk)[0]
    stale = Task.objects.get(pk=task.pk)
    assert dispatch.assign(task, seat) is True
    assert dispatch.assign(stale, dispatch.seats(agent.team.pk)[1]) is False


def test_a_worker_is_taken_once(agent, queue):
    seat = dispatch.seats(agent.team.pk)[0]
    assert [dispatch.assign(queue(), seat), dispatch.assign(queue(), seat)] == [True, False]


def test_nothing_is_given_to_an_engine_that_was_lost_meanwhile(agent, queue):
    seat = dispatch.seats(agent.team.pk)[0]
    agent.hang_up()
    assert dispatch.assign(queue(), seat) is False


def test_an_engine_whose_host_stops_it_gets_nothing(team, caller, agent, queue):
    agent.connect(mode="draining")
    assert placed(queue()) == ["engine_draining"]


def test_why_it_waits_is_written_down_when_it_changes_only(agent, running, queue):
    task = queue(targets=["gpu-1-cpu-0"])
    placed(task)
    placed(task)
    assert events(task) == [("waiting", "all_workers_busy")]


@pytest.mark.parametrize(("seconds", "status"), [(599, TaskStatus.QUEUED), (601, TaskStatus.FAILED)])
def test_without_any_matching_worker_it_fails_after_ten_minutes(queue, later, seconds, status):
    task = queue(targets=["nobody-cpu-0"])
    dispatch.run()
    later(seconds=seconds)
    dispatch.run()
    task.refresh_from_db()
    assert task.status == status


def test_the_ten_minutes_start_anew_when_a_worker_was_there(team, caller, agent, running, queue, later):
    task = queue(targets=["gpu-1-cpu-0"])
    dispatch.run()
    later(seconds=3600)
    dispatch.run()
    task.refresh_from_db()
    assert task.status == TaskStatus.QUEUED


def test_a_task_that_waits_for_a_busy_worker_expires_after_a_day(agent, running, queue, later):
    task = queue(targets=["gpu-1-cpu-0"])
    later(seconds=24 * 3600 + 1)
    dispatch.run()
    task.refresh_from_db()
    assert (task.status, "expired" in task.error) == (TaskStatus.FAILED, True)


# Moves


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
@pytest.mark.parametrize("to", [TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.FAILED])
def test_an_ended_task_never_moves_again(queue, status, to):
    with pytest.raises(ValueError, match="not a move"):
        tasks.move(queue(status=status), to, EventKind.ENDED)


def test_a_task_never_runs_without_being_dispatched():
    assert TaskStatus.RUNNING not in MOVES[TaskStatus.QUEUED]


def test_of_two_movers_the_second_loses(queue):
    first = queue()
    second = Task.objects.get(pk=first.pk)
    tasks.end(first, TaskStatus.CANCELLED)
    with pytest.raises(tasks.Moved):
        tasks.end(second, TaskStatus.FAILED)


def test_a_move_for_an_earlier_attempt_loses(agent, give):
    task = give()
    stale = Task.objects.get(pk=task.pk)
    agent.reject(task, "worker_busy")
    Task.objects.update(not_before=task.created_at)
    dispatch.run()
    with pytest.raises(tasks.Moved):
        tasks.accept(stale, "boot-1")


def test_cancelling_a_queued_task_ends_it(caller, queue):
    assert caller.post(f"/tasks/{queue().pk}/cancel").json()["status"] == TaskStatus.CANCELLED


def test_cancelling_an_ended_task_is_refused(caller, agent, running):
    agent.finish(running)
    answer = caller.post(f"/tasks/{running.pk}/cancel")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "invalid_transition")


def test_two_engines_share_the_work(team, caller, agent, queue):
    other = Agent(team, name="gpu-2", cpus=1)
    other.register(caller)
    other.connect()
    assert placed(*(queue() for _ in range(3))) == ["gpu-1-cpu-0", "gpu-1-cpu-1", "gpu-2-cpu-0"]
