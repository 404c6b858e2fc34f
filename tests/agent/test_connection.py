"""A connection that breaks disturbs nothing and loses nothing."""

import json
import signal
import sys

from engines import wire
from tests.agent.process import ROOT
from tests.controlplane.black_hole import BlackHole


def test_hello_comes_first_and_names_what_runs(plane, line):
    line.assign("t1", seconds=30)
    line.wait("task_accepted")
    line.close()
    again = plane.connection(2)
    assert again.frames[0]["type"] == "hello"
    assert again.data("hello")[0]["running"] == [{"task_id": "t1", "worker_id": "w0"}]


def test_a_task_finishes_while_the_connection_is_away(plane, line):
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    line.close()
    plane.until(lambda: results(plane), "the result after the reconnect")
    assert results(plane)[0]["status"] == "completed"


def test_a_result_is_held_until_it_is_acknowledged(plane, line):
    plane.acknowledges = False
    line.assign("t1", seconds=0)
    result = line.wait("task_result")
    line.close()
    again = plane.connection(2)
    assert again.data("hello")[0]["results"] == [result]


def test_an_acknowledged_result_is_dropped(plane, engine, line):
    line.assign("t1", seconds=0)
    line.wait("task_result")
    line.close()
    assert plane.connection(2).data("hello")[0]["results"] == []
    assert list((engine.state_dir / "results").iterdir()) == []


def test_a_restart_delivers_held_results(plane, engine, line, start):
    plane.acknowledges = False
    line.assign("t1", seconds=0)
    result = line.wait("task_result")
    engine.end()
    start()
    assert plane.connection(2).data("hello")[0]["results"] == [result]


def test_results_too_large_for_one_hello_follow_one_by_one(plane, tmp_path, start):
    for task_id in ("t1", "t2"):
        lay(tmp_path / "state" / "results", task_id, output="x" * 400_000)
    start()
    line = plane.connection()
    hello = line.data("hello")[0]
    assert [result["task_id"] for result in hello["results"]] == ["t1"]
    assert hello["running"] == [{"task_id": "t2", "worker_id": "w0"}]
    assert line.wait("task_result")["task_id"] == "t2"


def test_an_unreadable_result_is_set_aside(plane, tmp_path, start):
    folder = tmp_path / "state" / "results"
    folder.mkdir(parents=True)
    (folder / "t1.json").write_text('{"worker_id": "w0", "resu')
    start().says("a stored result cannot be read")
    assert plane.connection().data("hello")[0]["results"] == []
    assert [file.name for file in folder.iterdir()] == ["t1.unreadable"]


def test_nothing_but_hello_and_heartbeats_before_the_welcome(plane, line):
    plane.acknowledges = plane.welcomes = False
    line.assign("t1", seconds=30)
    line.wait("task_update")
    line.close()
    again = plane.connection(2)
    plane.until(lambda: len(again.data("heartbeat")) > 3, "heartbeats")
    assert {frame["type"] for frame in again.frames} == {"hello", "heartbeat"}


def test_an_engine_that_was_replaced_finishes_its_task_and_exits_3(plane, engine, line):
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    line.close(wire.CLOSE_REPLACED)
    assert engine.exits() == 3
    assert "another process has taken this engine's place" in engine.output
    assert [file.name for file in (engine.state_dir / "results").iterdir()] == ["t1.json"]
    assert len(plane.connections) == 1


def test_a_refused_connection_is_said_and_tried_again(plane, engine, line):
    line.close(wire.CLOSE_REFUSED)
    engine.says("refuses this connection (4003); trying again in")
    plane.connection(2)


# The engine with less patience: seconds that the product counts in tens.
HASTY = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from engines import wire
from tests.agent.process import ROOT
from tests.controlplane.black_hole import BlackHole
wire.HEARTBEAT_SECONDS, wire.DEAD_AFTER_SECONDS = 0.3, 1.2
from engines.agent.__main__ import main
sys.exit(main())
"""


def test_a_line_that_carries_nothing_any_more_counts_as_lost_and_the_task_runs_on(plane, start):
    """C3, from the engine's side."""
    with BlackHole(plane.port) as cable:
        engine = start(url=f"http://127.0.0.1:{cable.port}", program=(sys.executable, "-c", HASTY))
        line = plane.connection()
        line.assign("long", seconds=60)
        line.wait("task_accepted")
        cable.swallow()
        assert "1 task running on" in engine.says("the connection was lost")
        cable.restore()
        hello = plane.connection(2).wait("hello")
        assert [task["task_id"] for task in hello["running"]] == ["long"]


def test_a_stop_without_connection_leaves_results_on_disk(fleeting, start):
    engine = start("--grace", "1", url=fleeting.url)  # a short grace shortens the wait for the API, too
    line = fleeting.connection()
    line.assign("t1", seconds=0.5)
    line.wait("task_accepted")
    fleeting.stop()
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0
    assert "1 result not acknowledged" in engine.output
    assert (engine.state_dir / "results" / "t1.json").exists()


def results(plane):
    return [result for connection in plane.connections for result in sent(connection)]


def sent(connection):
    in_hello = [result for hello in connection.data("hello") for result in hello["results"]]
    return in_hello + connection.data("task_result")


def lay(folder, task_id, output):
    """Put a result where an earlier process would have left it."""
    folder.mkdir(parents=True, exist_ok=True)
    times = {"started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z"}
    result = {"task_id": task_id, "status": "completed", "output": output, "error": "", **times}
    (folder / f"{task_id}.json").write_text(json.dumps({"worker_id": "w0", "result": result}))
