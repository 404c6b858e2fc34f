"""After a task, a process of the same app waits on its worker with everything loaded."""

import os
import select
import signal
from datetime import datetime

from engines.agent.version import VERSION
from tests.agent.process import alive
from tests.agent.scripted import PATIENCE


def warm(app):
    return [f"{app}:{VERSION}@0"]


def run(line, task, app="sleep", worker="w0", **given):
    """Run a task to its end; return its result."""
    line.assign(task, app, worker, **({"seconds": 0} if app == "sleep" else given))
    return line.wait("task_result", task_id=task)


def waits(line, **apps):
    """Wait until heartbeats say that exactly these apps are warm, by worker."""
    wanted = {worker: warm(app) for worker, app in apps.items()}
    line.plane.until(lambda: line.data("heartbeat")[-1:] and line.data("heartbeat")[-1]["warm"] == wanted, f"{wanted}")


def seconds(result):
    """From the task's arrival at the engine to its end."""
    began, ended = (datetime.fromisoformat(result[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def test_nothing_is_warm_at_first(line):
    assert line.wait("heartbeat")["warm"] == {}


def test_heartbeats_name_the_app_that_waits_by_its_worker(line):
    run(line, "t1", worker="w1")
    waits(line, w1="sleep")


def test_the_process_that_waits_runs_the_next_task(engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    (pid,) = engine.children()
    line.assign("t2", seconds=30)
    line.wait("task_update", task_id="t2")
    assert engine.children() == [pid]


def test_the_next_task_starts_faster(line):
    cold, hot = [], []
    for turn in range(3):
        cold.append(seconds(run(line, f"cold-{turn}")))
        waits(line, w0="sleep")
        hot.append(seconds(run(line, f"hot-{turn}")))
        run(line, f"other-{turn}", "checksum", megabytes=1)
        waits(line, w0="checksum")
    assert min(hot) < min(cold) / 2


def test_a_task_that_comes_before_it_is_loaded_runs_all_the_same(line):
    for turn in range(5):
        assert run(line, f"t{turn}")["status"] == "completed"


def test_a_task_of_another_app_there_ends_it(engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    (pid,) = engine.children()
    run(line, "t2", "checksum", megabytes=1)
    waits(line, w0="checksum")
    assert not alive(pid)
    assert len(engine.children()) == 1


def test_a_task_on_another_worker_leaves_it(engine, line):
    run(line, "t1")
    run(line, "t2", "checksum", worker="w1", megabytes=1)
    waits(line, w0="sleep", w1="checksum")


def test_one_waits_after_a_cancelled_task_too(line):
    line.assign("t1", seconds=30)
    line.wait("task_update")
    line.send("cancel", task_id="t1")
    waits(line, w0="sleep")


def test_bad_input_to_a_process_that_waits_is_answered_with_words(line):
    run(line, "t1", "checksum", megabytes=1)
    waits(line, w0="checksum")
    result = run(line, "t2", "checksum", megabytes="many")
    assert (result["status"], result["error"]) == ("failed", "checksum: megabytes must be a number")


def test_one_that_died_is_not_shown_and_not_used(engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    (pid,) = engine.children()
    os.kill(pid, signal.SIGKILL)
    waits(line)
    assert run(line, "t2")["status"] == "completed"


def test_a_drain_ends_it(engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    line.send("drain", epoch=1)
    waits(line)
    line.plane.until(lambda: line.data("heartbeat") and not engine.children(), "the end of the process")


def test_none_waits_after_the_last_task_of_a_drain(engine, line):
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    line.send("drain", epoch=1)
    line.wait("drained")
    beats = len(line.data("heartbeat"))
    line.plane.until(lambda: len(line.data("heartbeat")) > beats + 3, "more heartbeats")
    assert engine.children() == []


def test_a_stop_ends_it_and_leaves_no_trouble(engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    (pid,) = engine.children()
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0
    assert not alive(pid)
    assert "Exception" not in engine.output


def test_it_does_not_outlive_an_engine_that_is_killed(engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    (pid,) = engine.children()
    handle = os.pidfd_open(pid)
    engine.end()
    assert select.select([handle], [], [], PATIENCE)[0]
    os.close(handle)


def test_what_is_warm_is_said_right_after_a_reconnect(plane, line):
    run(line, "t1")
    waits(line, w0="sleep")
    line.close()
    again = plane.connection(2)
    assert again.wait("heartbeat")["warm"] == {"w0": warm("sleep")}


def environment(pid):
    with open(f"/proc/{pid}/environ", encoding="utf-8") as file:
        return dict(entry.partition("=")[::2] for entry in file.read().split("\0"))


def test_it_has_the_gpus_of_its_worker_and_not_the_key(plane, start):
    plane.gpus = {"w0": ["GPU-7", "GPU-8"]}
    engine = start()
    line = plane.connection()
    run(line, "t1")
    waits(line, w0="sleep")
    (pid,) = engine.children()
    assert environment(pid)["CUDA_VISIBLE_DEVICES"] == "GPU-7,GPU-8"
    assert "INFERENCE_API_KEY" not in environment(pid)


def test_one_with_other_gpus_than_the_worker_has_now_is_not_used(plane, engine, line):
    run(line, "t1")
    waits(line, w0="sleep")
    plane.gpus = {"w0": ["GPU-9"]}
    plane.key, right = "inf_another-key", plane.key
    line.close()
    engine.says("the API answers 403 to the connection")
    plane.key = right
    again = plane.connection(2)
    again.assign("t2", seconds=30)
    again.wait("task_update", task_id="t2")
    plane.until(lambda: again.data("heartbeat") and len(engine.children()) == 1, "the end of the first")
    (pid,) = engine.children()
    assert environment(pid)["CUDA_VISIBLE_DEVICES"] == "GPU-9"


def test_a_released_file_keeps_apps_warm_too(plane, start, dist, bare_python):
    engine = start(program=[bare_python, str(dist / "v1.2.3" / "inferencesh-engine")])
    line = plane.connection()
    run(line, "t1")
    line.wait("heartbeat", warm={"w0": ["sleep:v1.2.3@0"]})
    (pid,) = engine.children()
    line.assign("t2", seconds=30)
    line.wait("task_update", task_id="t2")
    assert engine.children() == [pid]
