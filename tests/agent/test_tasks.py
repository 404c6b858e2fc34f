"""What an engine does with a task. One engine serves these tests; each leaves it idle."""

import contextlib
import hashlib
import random
import time
from pathlib import Path

import pytest

from tests.agent.process import AgentProcess, alive


@pytest.fixture(scope="module")
def engine(listening, tmp_path_factory):
    listening.forget()
    state = tmp_path_factory.mktemp("engine")
    (state / "engine.toml").write_text("heartbeat_seconds = 0.05\n")
    engine = AgentProcess(listening.url, state, "--config", str(state / "engine.toml"))
    yield engine
    engine.end()


@pytest.fixture(scope="module")
def only_line(engine, listening):
    return listening.connection()


@pytest.fixture
def line(only_line):
    only_line.plane.acknowledges = True
    yield only_line
    for accepted in only_line.data("task_accepted"):
        only_line.send("cancel", **accepted)
        only_line.wait("task_result", **accepted)
        only_line.send("result_ack", **accepted)
    only_line.frames.clear()


def test_it_runs_a_task_and_returns_its_output(line):
    line.assign("t1", "checksum", megabytes=2, seed="abc")
    result = line.wait("task_result")
    source = random.Random("abc")
    expected = hashlib.sha256(source.randbytes(1_000_000) + source.randbytes(1_000_000)).hexdigest()
    assert (result["status"], result["output"]["sha256"]) == ("completed", expected)


def test_what_a_task_says_comes_in_order(line):
    line.assign("t1", "sleep", seconds=0.4)
    line.wait("task_result")
    kinds = [frame["type"] for frame in line.frames if frame["type"].startswith("task_")]
    assert kinds[:2] == ["task_accepted", "task_update"]
    assert kinds[-1] == "task_result"


def test_progress_and_output_are_streamed(line):
    line.assign("t1", "sleep", seconds=0.4)
    line.wait("task_update", progress=1.0)
    assert "sleeping for 0.4 s\n" in "".join(update.get("log", "") for update in line.data("task_update"))


def test_updates_are_few(line):
    begun = time.monotonic()
    line.assign("t1", "checksum", megabytes=150)
    line.wait("task_result")
    assert 1 <= len(line.data("task_update")) <= 4 * (time.monotonic() - begun) + 2


@pytest.mark.parametrize(
    ("app", "worker", "reason"),
    [("sleep", "w9", "worker_unknown"), ("mining", "w1", "unknown_app"), ("sleep", "w0", "worker_busy")],
)
def test_it_refuses_what_it_cannot_run(line, app, worker, reason):
    line.assign("t1", seconds=30)
    line.wait("task_accepted")
    line.assign("t2", app, worker, seconds=0)
    assert line.wait("task_rejected") == {"task_id": "t2", "reason": reason}


def test_two_workers_run_two_tasks_at_once(line):
    line.assign("t1", worker="w0", seconds=30)
    line.assign("t2", worker="w1", seconds=30)
    both = [{"task_id": "t1", "worker_id": "w0"}, {"task_id": "t2", "worker_id": "w1"}]
    line.wait("heartbeat", running=both)
    assert line.wait("task_accepted", task_id="t1")
    assert line.wait("task_accepted", task_id="t2")


def test_bad_input_fails_the_task_and_names_the_field(line):
    line.assign("t1", "sleep", seconds="long")
    result = line.wait("task_result")
    assert (result["status"], result["error"]) == ("failed", "sleep: seconds must be a number")


def test_a_running_task_assigned_again_is_confirmed_not_started_again(engine, line):
    line.assign("twice", seconds=30)
    line.wait("task_accepted")
    line.assign("twice", seconds=30)
    line.plane.until(lambda: len(line.data("task_accepted")) == 2, "a second confirmation")
    line.plane.until(lambda: "task twice taken" in engine.output, "its line in the log")
    assert engine.output.count("task twice taken") == 1


def test_a_finished_task_assigned_again_is_answered_with_its_result(engine, line):
    line.plane.acknowledges = False
    line.assign("again", seconds=0)
    first = line.wait("task_result")
    line.assign("again", seconds=0)
    line.plane.until(lambda: len(line.data("task_result")) == 2, "the result again")
    assert line.data("task_result") == [first, first]
    line.plane.until(lambda: "task again taken" in engine.output, "its line in the log")
    assert engine.output.count("task again taken") == 1


def test_cancelling_ends_the_process(engine, line):
    line.assign("t1", "checksum", megabytes=50_000)
    line.wait("task_update")
    (pid,) = engine.children("checksum")
    line.send("cancel", task_id="t1")
    assert line.wait("task_result")["status"] == "cancelled"
    assert not alive(pid)


def test_the_key_is_not_in_the_environment_of_a_task(engine, line):
    line.assign("t1", seconds=30)
    line.wait("task_update")
    found = []
    for pid in engine.children():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # a process that waited may end meanwhile
            found.append(Path(f"/proc/{pid}/environ").read_text())
    assert found
    assert not any("INFERENCE_API_KEY" in environment for environment in found)


def test_frames_it_does_not_understand_are_left_alone(engine, line):
    line.send("polka", tempo="fast")
    line.send("task", task_id=7)
    line.assign("t1", seconds=0)
    line.wait("task_result", task_id="t1")
    assert "type 'polka' is not understood" in engine.output
    assert "task_id is not a text" in engine.output
