"""A cancellation that comes while the task moves."""

from engines.controlplane import dispatch, tasks
from engines.enums import TaskStatus


def test_a_task_that_is_dispatched_meanwhile_is_cancelled_all_the_same(caller, agent, queue, monkeypatch):
    task, cancel = queue(), tasks.cancel

    def late(row):
        dispatch.run()
        cancel(row)

    monkeypatch.setattr(tasks, "cancel", late)
    assert caller.post(f"/tasks/{task.pk}/cancel").status_code == 200
    task.refresh_from_db()
    assert task.status == TaskStatus.CANCELLING


def test_a_task_that_ends_meanwhile_is_not_cancelled(caller, agent, running, monkeypatch):
    cancel = tasks.cancel

    def late(row):
        agent.finish(running)
        cancel(row)

    monkeypatch.setattr(tasks, "cancel", late)
    answer = caller.post(f"/tasks/{running.pk}/cancel")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "invalid_transition")
