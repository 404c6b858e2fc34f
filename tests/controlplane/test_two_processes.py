"""Two control planes behind one database: whichever holds the socket, the rows are the truth."""

import threading
import time

import pytest

from engines import wire
from tests.controlplane.server import Line, Server, until

pytestmark = pytest.mark.processes

WITHIN = 8.0  # seconds in which one process sees what another wrote, without any wake-up between them


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    both = Server(folder), Server(folder)
    yield both
    for server in both:
        server.close()


@pytest.fixture
def first(pair):
    pair[0].start()
    yield pair[0]
    pair[0].kill()


@pytest.fixture
def second(pair):
    pair[1].start()
    yield pair[1]
    pair[1].kill()


def start_task(server, line, name):
    """Have an engine's first worker run a task, asked for at `server`."""
    task = server.run(workers=[f"{name}-cpu-0"])
    assert line.wait("task")["task_id"] == task
    line.say("task_accepted", task_id=task)
    until(lambda: server.task(task)["status"] == 7, "the task to run")
    return task


def finish(line, task):
    line.say("task_result", task_id=task, status="completed", output="intact", error="")
    assert line.wait("result_ack") == {"task_id": task}


def dispatches(server, task):
    return [event["kind"] for event in server.task(task)["events"]].count("dispatched")


def test_the_newest_connection_wins_wherever_it_is(first, second):
    """C5: two processes, one engine, connections at both."""
    engine = first.register("moves")
    old = first.greet(engine)
    new = second.greet(engine)
    code, reason = old.code()
    assert (code, reason) == (wire.CLOSE_REPLACED, "another process has taken this engine's place")
    task = start_task(first, new, "moves")
    finish(new, task)
    assert (second.engine(engine)["status"], dispatches(second, task)) == ("running", 1)
    new.hang_up()


def test_a_newer_process_of_an_engine_wins_wherever_the_older_one_is(first, second):
    """C5: two control planes, two processes of one engine. The older one is let go of and stays out."""
    engine = first.register("reborn")
    old = first.greet(engine)
    task = start_task(first, old, "reborn")
    second.register("reborn", engine_id=engine, boot="boot-2")
    new = second.greet(engine, boot="boot-2")
    assert old.code()[0] == wire.CLOSE_REPLACED
    assert first.task(task)["error"] == "the engine restarted while this task ran"
    stale = Line(first.socket(engine))
    stale.say("hello", boot_id="boot-1", mode="running", drain_epoch=0, running=[], results=[])
    assert stale.code() == (wire.CLOSE_REPLACED, "a newer process of this engine has registered")
    assert first.engine(engine)["status"] == "running"
    finish(new, start_task(first, new, "reborn"))
    new.hang_up()


def test_what_the_older_connection_still_says_changes_nothing(first, second):
    engine = first.register("late")
    old = first.greet(engine)
    task = start_task(first, old, "late")
    new = second.greet(engine, running=[task])
    old.say("task_result", task_id=task, status="failed", output=None, error="a ghost")
    assert old.code()[0] == wire.CLOSE_REPLACED
    finish(new, task)
    assert (first.task(task)["status"], first.task(task)["output"]) == (10, "intact")
    new.hang_up()


def test_a_drain_at_one_process_reaches_the_engine_of_the_other(first, second):
    engine = first.register("far")
    line = first.greet(engine)
    task = start_task(second, line, "far")
    began = time.monotonic()
    assert second.drain(engine).json()["status"] == "draining"
    order = line.wait("drain")
    assert time.monotonic() - began < WITHIN
    finish(line, task)
    line.say("drained", **order)
    assert line.wait("shutdown") == order
    assert second.engine(engine)["status"] == "stopped"
    line.hang_up()


def test_when_one_process_is_killed_its_engines_go_on_at_the_other(first, second):
    engine = first.register("orphan", cpus=2)
    line = first.greet(engine)
    running, waiting = start_task(first, line, "orphan"), second.run(workers=["orphan-cpu-1"])
    first.kill()
    line = second.greet(engine, running=[running])
    assert line.wait("task")["task_id"] == waiting
    for task in (running, waiting):
        finish(line, task)
        assert second.task(task)["output"] == "intact"
    assert dispatches(second, running) == 1
    line.hang_up()


def test_a_result_that_the_killed_process_never_took_is_taken_by_the_other(first, second):
    engine = first.register("owing")
    task = start_task(first, first.greet(engine), "owing")
    first.kill()
    done = {"task_id": task, "status": "completed", "output": "intact", "error": ""}
    line = second.greet(engine, results=[done])
    assert "result_ack" in line.heard
    assert second.task(task)["output"] == "intact"
    line.hang_up()


def test_the_control_plane_is_upgraded_during_a_drain(first, second):
    """C9: stopped gracefully and started again, while an engine drains and another serves."""
    draining, serving = first.register("leaving"), second.register("staying")
    line, other = first.greet(draining), second.greet(serving)
    task = start_task(first, line, "leaving")
    first.drain(draining)
    order = line.wait("drain")
    assert first.stop() < 6
    assert line.code()[0] == 1012
    finish(other, start_task(second, other, "staying"))
    first.start()
    assert second.engine(draining)["status"] == "disconnected"
    line = first.greet(draining, running=[task], mode="draining", drain_epoch=order["epoch"])
    finish(line, task)
    line.say("drained", **order)
    assert line.wait("shutdown") == order
    assert (second.engine(draining)["status"], second.task(task)["output"]) == ("stopped", "intact")
    assert dispatches(second, task) == 1
    assert second.engine(serving)["status"] == "running"
    line.hang_up()
    other.hang_up()


def test_both_place_tasks_at_once_and_none_twice(first, second):
    engine = first.register("shared", cpus=4)
    line = first.greet(engine)
    asked = []
    callers = [threading.Thread(target=ask, args=(server, asked)) for server in (first, second)]
    for caller in callers:
        caller.start()
    for _ in range(20):
        task = line.wait("task")["task_id"]
        line.say("task_accepted", task_id=task)
        line.say("task_result", task_id=task, status="completed", output="intact", error="")
    for caller in callers:
        caller.join()
    until(lambda: all(second.task(task)["status"] == 10 for task in asked), "all results")
    assert {dispatches(second, task) for task in asked} == {1}
    assert line.heard.count("task") == len(asked) == 20
    line.hang_up()


def ask(server, asked):
    for number in range(10):
        asked.append(server.run(workers=[f"shared-cpu-{number % 4}"]))
