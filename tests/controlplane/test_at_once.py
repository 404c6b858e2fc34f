"""A new task that finds a free worker: assigned by the request itself, and sent without another look at the rows."""

import threading

import pytest
from django.db import connections, transaction

from engines.controlplane import dispatch, keys, sessions, statements, tasks
from engines.controlplane.models import DATABASE, ApiKey, Engine, Task, atomic
from engines.enums import TaskStatus
from tests.controlplane.conftest import Agent, events, kinds


@pytest.fixture
def held(agent, django_capture_on_commit_callbacks):
    """Have the agent's socket in this process; do something, and return what is sent on it without a look."""

    def sent_by(do):
        with django_capture_on_commit_callbacks(using=DATABASE, execute=True):
            do()
        return agent.session.take_handed()

    with sessions.held(agent.session):
        yield sent_by


def run(caller, **asked):
    return caller.post("/run", {"app": "sleep", **asked}).json()


def at_once(do, each):
    """Do it for each, all at the same time."""
    together = threading.Barrier(len(each))

    def one(what):
        try:
            together.wait(20)
            do(what)
        finally:
            connections[DATABASE].close()

    racing = [threading.Thread(target=one, args=[what]) for what in each]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()


def row(answer):
    return Task.objects.select_related("worker").get(pk=answer["id"])


def test_the_answer_tells_of_the_worker(caller, agent):
    answer = run(caller)
    assert (answer["status"], answer["engine_id"], answer["attempt"]) == (TaskStatus.DISPATCHED, agent.id, 1)
    assert events(row(answer)) == [("queued", ""), ("dispatched", "to gpu-1-cpu-0")]


@pytest.mark.parametrize("aim", [[], ["gpu-1-cpu-0"]])
def test_it_does_not_overtake_one_that_waits_for_the_same_worker(caller, agent, queue, aim):
    first = queue(targets=aim)
    assert run(caller, workers=["gpu-1-cpu-0"])["status"] == TaskStatus.QUEUED
    dispatch.run()
    first.refresh_from_db()
    assert first.status == TaskStatus.DISPATCHED


def test_one_that_waits_for_another_worker_does_not_hold_it_up(caller, agent, queue):
    queue(targets=["elsewhere-cpu-0"])
    assert run(caller)["status"] == TaskStatus.DISPATCHED


def test_behind_a_long_queue_it_waits_for_its_turn(caller, agent, queue):
    for _ in range(dispatch.CHOICES):
        queue(targets=["elsewhere-cpu-0"])
    assert run(caller)["status"] == TaskStatus.QUEUED


def test_behind_a_long_queue_a_busy_fleet_is_looked_through_only_once(caller, agent, queue, monkeypatch):
    looks, ask = [], statements.ask
    monkeypatch.setattr(statements, "ask", lambda sql, *given: (looks.append(sql), ask(sql, *given))[1])
    Engine.objects.update(mode="draining")
    for waiting in (0, dispatch.CHOICES):
        looks.clear()
        for _ in range(waiting):
            queue(targets=["elsewhere-cpu-0"])
        assert run(caller)["status"] == TaskStatus.QUEUED
        assert sum("controlplane_worker w" in sql for sql in looks) == (1 if waiting else 4)


@pytest.mark.parametrize("app", ["größer", "模型", "🦊", 'say "hi"', "back\\slash", "tab\there", "50%_off!"])
def test_an_app_is_warm_whatever_it_is_called(caller, agent, app):
    Engine.objects.get(pk=agent.id).workers.filter(index=1).update(warm_apps=[f"{app}:v1@0"])
    assert row(run(caller, app=app)).worker.index == 1


def test_it_goes_on_the_worker_where_its_app_is_warm_among_very_many(caller, agent):
    engine = Engine.objects.get(pk=agent.id)
    engine.workers.bulk_create(
        engine.workers.model(engine=engine, kind="cpu", index=index) for index in range(2, dispatch.CHOICES + 9)
    )
    engine.workers.filter(index=dispatch.CHOICES + 5).update(warm_apps=["50%_off:v1@0"])
    assert row(run(caller, app="50%_off")).worker.index == dispatch.CHOICES + 5
    assert row(run(caller, app="50xyoff")).worker.index == 0


def test_an_app_that_is_warm_with_another_setup_is_not_warm(caller, agent):
    Engine.objects.get(pk=agent.id).workers.filter(index=1).update(warm_apps=["sleep:v1@abcdef", "other:v1@0"])
    assert row(run(caller)).worker.index == 0


def test_it_waits_for_the_lock_of_a_better_worker_rather_than_take_a_worse_one(caller, agent, monkeypatch):
    Engine.objects.get(pk=agent.id).workers.filter(index=1).update(warm_apps=["sleep:v1@0"])
    start = dispatch._start

    def locked(task, seat, *, waits=True):
        return (waits or not seat.warm_apps) and start(task, seat, waits=waits)

    monkeypatch.setattr(dispatch, "_start", locked)
    assert row(run(caller)).worker.index == 1


@pytest.mark.parametrize("change", [{"state": "draining", "drain_epoch": 1}, {"session": None}, {"mode": "draining"}])
def test_a_worker_that_is_lost_between_look_and_lock_gets_nothing(caller, agent, monkeypatch, change):
    seat = dispatch.seats(agent.team.pk)[0]
    monkeypatch.setattr(dispatch, "_choices", lambda task: iter([seat]))
    Engine.objects.update(**change)
    assert (run(caller)["status"], Task.objects.count()) == (TaskStatus.QUEUED, 1)


def test_a_worker_that_was_taken_between_look_and_lock_gets_no_second_task(caller, agent, monkeypatch):
    seat = dispatch.seats(agent.team.pk)[0]
    monkeypatch.setattr(dispatch, "_choices", lambda task: iter([seat]))
    first, second = run(caller), run(caller)
    assert (first["status"], second["status"]) == (TaskStatus.DISPATCHED, TaskStatus.QUEUED)
    assert (row(second).worker, row(second).attempt, row(second).dispatched_at) == (None, 0, None)
    assert events(row(second)) == [("queued", "")]


@pytest.mark.parametrize("kind", ["name", "id"])
def test_it_goes_to_the_worker_that_it_is_aimed_at(caller, agent, kind):
    worker = Engine.objects.get(pk=agent.id).workers.get(index=1)
    aim = "gpu-1-cpu-1" if kind == "name" else worker.pk
    assert row(run(caller, workers=["gpu-1-cpu-7", aim])).worker == worker


@pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])
def test_of_many_requests_for_the_last_seat_exactly_one_gets_it(team, agent):
    seat = dispatch.seats(team.pk)[0]

    def admit(task):
        if not dispatch._start(task, seat):
            with atomic():
                task.save(force_insert=True)

    at_once(admit, [Task(team=team, app="sleep") for _ in range(4)])
    found = sorted(Task.objects.values_list("status", flat=True))
    assert found == [TaskStatus.QUEUED] * 3 + [TaskStatus.DISPATCHED]


# What is handed to the socket


def test_it_is_sent_as_soon_as_it_is_committed_and_only_once(caller, agent, held):
    (frame,) = held(lambda: run(caller, input={"n": 1}, setup={"m": 2}))
    assert (frame["type"], frame["data"]["input"], frame["data"]["setup"]) == ("task", {"n": 1}, {"m": 2})
    assert agent.due() == []


def test_one_from_the_queue_is_handed_over_too(agent, held, queue):
    task = queue(input={"n": 1})
    (frame,) = held(dispatch.run)
    assert (frame["data"]["task_id"], frame["data"]["input"]) == (task.pk, {"n": 1})


def test_what_the_rows_said_already_is_not_sent_again(caller, agent, held):
    def look_first():
        run(caller)
        assert kinds(agent.due()) == ["task"]

    assert held(look_first) == []


def test_one_that_was_taken_back_before_it_was_sent_is_not_sent(caller, agent, held):
    def cancel_first():
        task = row(run(caller))
        tasks.cancel(task)
        assert agent.due() == []

    assert held(cancel_first) == []
    assert Task.objects.get().status == TaskStatus.CANCELLED


def test_nothing_is_sent_of_an_assignment_that_was_not_committed(caller, agent, held, queue):
    seat, task = dispatch.seats(agent.team.pk)[0], queue()

    def fail():
        with atomic():
            dispatch.assign(task, seat)
            transaction.set_rollback(True, using=DATABASE)

    assert held(fail) == []


def test_a_connection_whose_key_was_revoked_is_handed_nothing(caller, agent, held):
    ApiKey.objects.filter(pk=agent.session.key_id).update(revoked_at=agent.row.created_at)
    assert keys.serving([agent.session.key_id]) == set()
    assert held(lambda: run(caller)) == []


def test_a_connection_that_was_replaced_is_handed_nothing(caller, agent, held):
    old = agent.session
    agent.connect()
    held(lambda: run(caller))
    assert (old.take_handed(), kinds(agent.due())) == ([], ["task"])


@pytest.mark.skipif("connections['controlplane'].vendor != 'sqlite'", reason="only SQLite overlooks these indexes")
@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (lambda: dispatch._queue().filter(team="t"), "task_queue"),
        (lambda: Task.objects.filter(dispatch.LIVE_TASK, worker="w"), "one_live_task_per_worker"),
        (lambda: Task.objects.filter(dispatch.LIVE_TASK, engine="e"), "task_live"),
    ],
)
def test_tasks_that_have_ended_are_not_read_through(rows, index):
    assert f"USING INDEX {index}" in rows().explain()


def test_one_that_finds_its_first_choice_taken_goes_to_the_next(caller, agent, monkeypatch):
    first, second = dispatch.seats(agent.team.pk)[:2]
    monkeypatch.setattr(dispatch, "_choices", lambda task: iter([first, second]))
    assert [row(run(caller)).worker.pk for _ in range(2)] == [first.worker_id, second.worker_id]


@pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])
def test_many_at_once_find_a_worker_each_and_none_has_to_queue(team, caller):
    agents = [Agent(team, name=f"gpu-{number}") for number in range(4)]
    for agent in agents:
        agent.register(caller)
        agent.connect()
    at_once(dispatch.admit, [Task(team=team, app="sleep") for _ in agents])
    assert len(set(Task.objects.filter(status=TaskStatus.DISPATCHED).values_list("worker", flat=True))) == 4
