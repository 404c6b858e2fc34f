"""The small parts: output kept within bounds, waits, the state on disk, what nvidia-smi says."""

import subprocess
import sys

import pytest

from engines.agent.backoff import Backoff
from engines.agent.host import parse_gpus, system_info
from engines.agent.output import LONGEST_LINE, MOST_AT_ONCE, MOST_KEPT, Output
from engines.agent.state import StateDir
from engines.agent.tasks import SHUT_DOWN, Task


@pytest.fixture
def task():
    assign = {"task_id": "t1", "worker_id": "w0", "app": "sleep", "input": {}}
    return Task(assign, lambda: None)


def test_output_is_taken_in_order_and_once():
    output = Output()
    output.add("one")
    output.add("two")
    assert output.take() == "one\ntwo\n"
    assert not output


def test_output_is_taken_in_bounded_chunks():
    output = Output()
    for number in range(1000):
        output.add(f"line {number:060}")
    assert len(output.take()) <= MOST_AT_ONCE
    assert output


def test_too_much_output_drops_the_oldest_and_says_how_much():
    output = Output()
    for number in range(2000):
        output.add(f"line {number:060}")
    taken = output.take(2 * MOST_KEPT)
    assert taken.startswith("[1008 earlier lines were dropped]\n")
    assert taken.endswith(f"{1999:060}\n")


def test_a_very_long_line_is_cut():
    output = Output()
    output.add("x" * 100_000)
    assert len(output.take()) == LONGEST_LINE + 2


def test_the_first_retry_is_quick_and_the_last_ones_are_slow():
    backoff = Backoff()
    waits = [backoff.take() for _ in range(12)]
    assert waits[0] < 1 < waits[1] < 3
    assert 24 <= waits[-1] <= 36


def test_a_good_connection_makes_retries_quick_again():
    backoff = Backoff()
    for _ in range(5):
        backoff.take()
    backoff.reset()
    assert backoff.take() < 1


def test_a_task_id_cannot_leave_the_results_folder(tmp_path):
    state = StateDir(tmp_path)
    state.keep({"worker_id": "w0", "result": {"task_id": "../../escape"}})
    assert list(state.held()) == ["../../escape"]
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["..%2F..%2Fescape.json"]


def test_a_half_written_result_is_not_one(tmp_path):
    state = StateDir(tmp_path)
    (tmp_path / "results" / "t1.new").write_text('{"worker')
    assert state.held() == {}


def test_the_state_is_for_its_owner_only(tmp_path):
    StateDir(tmp_path / "state")
    assert (tmp_path / "state" / "results").stat().st_mode & 0o077 == 0


def test_the_host_is_described():
    info = system_info()
    assert info["cpus"][0]["cores"] >= 1
    assert 0 < info["ram"]["available"] <= info["ram"]["total"]
    assert info["volumes"][0]["size"] > 0


def test_nvidia_smi_is_understood():
    text = "0, GPU-1f, NVIDIA A100 80GB PCIe, 535.1, 1024, 81920, 41\n1, GPU-2e, Tesla, 535.1, [N/A], 100, [N/A]\n"
    first, second = parse_gpus(text)
    assert (first["name"], first["memory_total"], first["temperature"]) == (
        "NVIDIA A100 80GB PCIe",
        81920 * 1024**2,
        41,
    )
    assert (second["id"], second["memory_used"]) == ("GPU-2e", 0)


def test_an_error_of_nvidia_smi_is_no_gpu():
    assert parse_gpus("NVIDIA-SMI has failed because it couldn't communicate with the driver.\n") == []


def test_an_output_that_is_not_json_fails_the_task(task):
    task._heard('{"result": {"loss": NaN}}')
    assert "holds NaN" in task._result(0)["error"]


def test_an_output_too_large_for_a_frame_fails_the_task(task):
    task._heard('{"result": "' + "x" * 800_000 + '"}')
    assert task._result(0)["error"] == "the output has 800002 bytes; 786432 fit"


def test_an_app_that_dies_fails_the_task(task):
    task._heard("MemoryError")
    expected = "the app ended with signal SIGSEGV before it gave a result; its last words: MemoryError"
    assert task._result(-11)["error"] == expected


def test_what_an_app_prints_is_kept_as_its_output(task):
    task._heard("Traceback: oh")
    task._heard("[1, 2]")
    assert task.take_update()["log"] == "Traceback: oh\n[1, 2]\n"


def test_a_result_that_came_before_the_end_counts(task):
    task._ending = "shut down"
    task._heard('{"result": {"n": 1}}')
    assert task._result(0)["output"] == {"n": 1}
    assert SHUT_DOWN not in task._result(0)["error"]


def test_a_closed_pipe_neither_stops_it_nor_changes_its_exit_code():
    words = "import sys; from engines.agent.say import say; sys.stdin.read(); say('one'); say('two'); sys.exit(0)"
    started = subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started.stdout.close()
    started.stdin.close()
    assert started.wait(20) == 0
