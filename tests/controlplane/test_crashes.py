"""The control plane dies at every step of a drain, and comes back. Everything that matters is in the database."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.agent.process import AgentProcess
from tests.controlplane.server import Server, until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("api"))
    yield server
    server.close()


@pytest.fixture
def server(prepared):
    """A server that the test starts, and that is killed at its end."""
    yield prepared
    prepared.kill()


def running_task(server, name):
    """An engine with a running task, and its connection."""
    engine = server.register(name)
    line = server.greet(engine)
    task = server.run(workers=[f"{name}-cpu-0"])
    line.wait("task")
    line.say("task_accepted", task_id=task)
    until(lambda: server.task(task)["status"] == 7, "the task to run")
    return engine, task


def drain_through(server, engine, task):
    """What an engine does after a reconnect: it confirms its task, obeys, finishes, reports."""
    line = server.greet(engine, running=[task])
    line.wait("drain")
    line.say("task_result", task_id=task, status="completed", output="intact", error="")
    line.wait("result_ack")
    line.say("drained", epoch=1)
    assert line.wait("shutdown") == {"epoch": 1}
    assert (server.engine(engine)["status"], server.task(task)["output"]) == ("stopped", "intact")
    assert [event["kind"] for event in server.task(task)["events"]].count("dispatched") == 1
    line.hang_up()


def test_killed_while_a_task_runs_nothing_is_lost(server):
    server.start()
    engine, task = running_task(server, "plain")
    server.kill()
    server.start()
    assert (server.engine(engine)["status"], server.task(task)["status"]) == ("disconnected", 7)
    server.greet(engine, running=[task]).hang_up()
    assert server.task(task)["status"] == 7


def test_killed_before_the_drain_is_committed_nothing_was_changed(server):
    server.start("drain.before_commit")
    engine, task = running_task(server, "before-commit")
    with pytest.raises(httpx.TransportError):
        server.drain(engine)
    server.wait_dead()
    server.start()
    line = server.greet(engine, running=[task])
    assert server.engine(engine)["status"] == "running"
    line.hang_up()


@pytest.mark.parametrize("place", ["drain.after_commit", "drain.before_send", "drain.after_send"])
def test_killed_on_the_way_of_the_order_the_drain_goes_on(server, place):
    """C1: killed at each step between the order's commit and its way to the engine."""
    server.start(place)
    engine, task = running_task(server, place.replace(".", "-"))
    with contextlib.suppress(httpx.TransportError):
        server.drain(engine)
    server.wait_dead()
    server.start()
    drain_through(server, engine, task)


@pytest.mark.parametrize(
    ("place", "afterwards"),
    [("drained.before_commit", "drain"), ("drained.after_commit", "shutdown"), ("shutdown.before_send", "shutdown")],
)
def test_killed_around_the_report_the_engine_is_let_go_once(server, place, afterwards):
    """C1: killed at each step between the engine's report and the answer to it."""
    server.start(place)
    engine = server.register(place)
    line = server.greet(engine)
    server.drain(engine)
    line.say("drained", **line.wait("drain"))
    server.wait_dead()
    server.start()
    line = server.greet(engine, mode="draining", drain_epoch=1)
    line.wait(afterwards)
    if afterwards == "drain":
        line.say("drained", epoch=1)
        line.wait("shutdown")
    assert server.engine(engine)["status"] == "stopped"
    line.hang_up()


def test_killed_before_a_result_is_committed_it_is_delivered_again(server):
    server.start("result.before_commit")
    engine, task = running_task(server, "result")
    done = {"task_id": task, "status": "completed", "output": 1, "error": ""}
    server.greet(engine, running=[task]).say("task_result", **done)
    server.wait_dead()
    server.start()
    assert server.task(task)["status"] == 7
    assert "result_ack" in server.greet(engine, results=[done]).heard
    assert server.task(task)["output"] == 1


def test_a_second_process_of_an_engine_takes_its_place(server):
    """C2: the process before died while a task ran."""
    server.start()
    engine, task = running_task(server, "reborn")
    server.register("reborn", engine_id=engine, boot="boot-2")
    server.greet(engine, boot="boot-2").hang_up()
    assert server.task(task)["error"] == "the engine restarted while this task ran"


def test_a_killed_engine_runs_again_what_asked_for_it_and_nothing_else(server, tmp_path):
    """C2: SIGKILL for a real engine whose tasks run, and a new process of it."""
    server.start()
    (tmp_path / "engine.toml").write_text("[workers.cpu]\ncount = 2\n")
    flags = (server.url, tmp_path / "state", "--config", str(tmp_path / "engine.toml"))
    engine = AgentProcess(*flags, key=server.key)
    engine.says("connected to")
    again = server.run(input={"seconds": 0.5}, workers=["host-1-cpu-0"], on_engine_loss="requeue")
    never = server.run(input={"seconds": 60}, workers=["host-1-cpu-1"])
    engine.says(f"task {again} taken")
    engine.says(f"task {never} taken")
    until(lambda: {server.task(task)["status"] for task in (again, never)} == {7}, "both to run")
    engine.end()
    reborn = AgentProcess(*flags, key=server.key)
    try:
        until(lambda: server.task(again)["status"] == 10, "the one that asked to run again")
    finally:
        reborn.end()
    kinds = [event["kind"] for event in server.task(again)["events"]]
    assert (kinds.count("dispatched"), kinds.count("requeued")) == (2, 1)
    lost = server.task(never)
    assert (lost["status"], lost["error"]) == (11, "the engine restarted while this task ran")


def test_it_stops_within_its_grace_while_engines_are_connected(server):
    server.start()
    server.greet(server.register("stays"))
    assert server.stop() < 6


def test_many_tasks_race_one_drain(server):
    """C4: what was given before the drain is finished, the rest waits, nothing is given afterwards."""
    server.start()
    engine = server.register("racer", cpus=4)
    line = server.greet(engine)
    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(server.run, workers=[f"racer-cpu-{n % 4}"]) for n in range(100)]
        assert server.drain(engine).is_success
        tasks = [task.result() for task in asked]
    order = line.wait("drain")
    given = [task for task in tasks if server.task(task)["status"] != 2]
    assert line.heard.count("task") == len(given)
    for task in given:
        line.say("task_result", task_id=task, status="completed", output=None, error="")
    line.say("drained", **order)
    line.wait("shutdown")
    assert {server.task(task)["status"] for task in given} <= {10}
    assert all(server.task(task)["waiting_for"] for task in tasks if task not in given)
    line.hang_up()
