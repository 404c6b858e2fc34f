"""A drain asked by the control plane, and a stop asked on the host."""

import signal

import pytest


@pytest.fixture
def draining(line):
    """The connection of an engine that drains while a task runs."""
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    line.send("drain", epoch=1)
    line.wait("heartbeat", mode="draining")
    return line


def test_an_idle_engine_is_drained_at_once(line):
    line.send("drain", epoch=4)
    assert line.wait("drained") == {"epoch": 4}


def test_it_goes_with_0_only_when_it_is_let_go(engine, line):
    line.send("drain", epoch=1)
    line.wait("drained")
    line.wait("heartbeat", mode="draining")
    assert not line.ended
    line.send("shutdown", epoch=1)
    assert engine.exits() == 0


def test_it_says_goodbye_to_the_control_plane(line):
    line.send("drain", epoch=1)
    line.wait("drained")
    line.send("shutdown", epoch=1)
    line.wait_ended()
    assert line.close_code == 1000


def test_it_ignores_a_shutdown_for_another_drain(engine, line):
    line.send("drain", epoch=2)
    line.wait("drained")
    line.send("shutdown", epoch=1)
    engine.says("not the one obeyed")
    line.send("shutdown", epoch=2)
    assert engine.exits() == 0


def test_it_finishes_what_runs_and_reports_after_the_result(draining):
    draining.wait("drained")
    kinds = [frame["type"] for frame in draining.frames if frame["type"] in ("task_result", "drained")]
    assert kinds == ["task_result", "drained"]


def test_it_refuses_new_tasks(draining):
    draining.assign("t2", worker="w1", seconds=0)
    assert draining.wait("task_rejected") == {"task_id": "t2", "reason": "engine_draining"}


def test_heartbeats_go_on_while_it_drains(plane, draining):
    draining.wait("drained")
    beats = len(draining.data("heartbeat", mode="draining"))
    plane.until(lambda: len(draining.data("heartbeat", mode="draining")) > beats + 1, "more heartbeats")
    assert beats >= 4


def test_it_is_not_drained_while_a_result_is_not_acknowledged(plane, draining):
    plane.acknowledges = False
    draining.wait("task_result")
    beats = len(draining.data("heartbeat"))
    plane.until(lambda: len(draining.data("heartbeat")) > beats + 2, "more heartbeats")
    assert not draining.data("drained")
    draining.send("result_ack", task_id="t1")
    draining.wait("drained")


def test_it_reports_again_on_each_connection_that_asks(plane, line):
    line.send("drain", epoch=1)
    line.wait("drained")
    line.close()
    again = plane.connection(2)
    assert again.data("hello")[0] | {"boot_id": ""} == {
        "boot_id": "",
        "version": "v0.1.0",
        "mode": "draining",
        "drain_epoch": 1,
        "running": [],
        "results": [],
    }
    again.send("drain", epoch=1)
    again.wait("drained", epoch=1)


def test_it_says_what_it_waits_for(engine, draining):
    engine.says("drain asked (1 task running)")
    engine.says("waiting for 1 task: t1 (sleep, ")
    engine.says("drained")


def test_sigterm_finishes_the_task_delivers_and_exits_0(engine, line):
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0
    assert line.data("task_result")[0]["status"] == "completed"
    assert list((engine.state_dir / "results").iterdir()) == []


def test_after_sigterm_nothing_new_is_taken(engine, line):
    line.assign("t1", seconds=30)
    line.wait("task_accepted")
    engine.signal(signal.SIGINT)
    line.wait("heartbeat", mode="draining")
    line.assign("t2", worker="w1", seconds=0)
    assert line.wait("task_rejected")["reason"] == "engine_draining"


def test_a_second_sigterm_kills_the_task_and_exits_1(engine, line):
    line.assign("t1", seconds=30)
    line.wait("task_accepted")
    engine.signal(signal.SIGTERM)
    line.wait("heartbeat", mode="draining")
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 1
    assert "task t1 is killed after" in engine.output


def test_ctrl_c_and_the_sigterm_of_a_supervisor_are_one_request(engine, line):
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    engine.signal(signal.SIGINT)
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0


def test_with_a_grace_the_task_is_ended_and_reported(start, plane):
    engine = start("--grace", "0.2")
    line = plane.connection()
    line.assign("t1", seconds=30)
    line.wait("task_accepted")
    engine.signal(signal.SIGTERM)
    result = line.wait("task_result")
    assert result["status"] == "failed"
    assert result["error"] == "the engine was shut down on its host while this task ran"
    assert engine.exits() == 0


def test_an_idle_engine_stops_at_once(engine, line):
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0
