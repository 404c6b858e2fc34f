"""The children of the supervisor, with small real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portal.processes import Child, Failed, Spec, rotate, stop
from tests.harness import wait_for

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
PARENT = """
import subprocess, sys, time
from portal.processes import Spec, spawn
print(spawn(Spec("child", ["sleep", "60"])).pid, flush=True)
time.sleep(60)
"""
RESTS = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests, nohup for one
from portal.processes import Stopped, rest, signals_held
with signals_held():
    print("resting", flush=True)
    try:
        rest(60)
    except Stopped:
        print("stopped", flush=True)
"""


@pytest.fixture
def child(tmp_path):
    """Makes a child from the words of a command."""
    made = []

    def make(*argv, name="child", **more):
        made.append(Child(Spec(name, argv, **more), tmp_path / "logs"))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def python(source, **more):
    return subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, **more)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_its_output_goes_to_its_log(child):
    one = child("echo", "hello")
    one.start()
    wait_for(lambda: one.code == 0, 5, "end")
    assert one.last_words() == "hello"


def test_a_missing_program_is_named(child):
    with pytest.raises(Failed, match="no-such-program"):
        child("no-such-program").start()


def test_its_environment_is_ours_and_its_own(child, monkeypatch):
    monkeypatch.setenv("OURS", "1")
    one = child("sh", "-c", "echo $OURS$ITS", environment={"ITS": "2"})
    one.start()
    wait_for(lambda: one.code == 0, 5, "end")
    assert one.last_words() == "12"


def test_it_compiles_what_it_imports_even_where_we_do_not(child, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    one = child("sh", "-c", "echo [$PYTHONDONTWRITEBYTECODE]")
    one.start()
    wait_for(lambda: one.code == 0, 5, "end")
    assert one.last_words() == "[]"


def test_the_pauses_double_up_to_half_a_minute(child):
    one = child("false")
    one.start()
    assert [one.pause_before_restart() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_steady_child_starts_again_with_the_first_pause(child, monkeypatch):
    one = child("false")
    one.start()
    one.pause_before_restart()
    monkeypatch.setattr("portal.processes.STEADY", -1)
    assert one.pause_before_restart() == 1


def test_how_it_ended_names_the_signal(child):
    one = child("sleep", "60")
    one.start()
    one.kill()
    assert one.how_it_ended() == "was ended by SIGKILL"


def test_one_that_ignores_the_request_is_killed_when_its_time_is_up(child):
    one = child(sys.executable, "-c", STUBBORN)
    one.start()
    wait_for(lambda: one.last_words() == "deaf", 5, "deaf child")
    stop([(0.2, [one])])
    assert one.code == -signal.SIGKILL


def test_the_second_group_is_asked_only_when_the_first_is_gone(child):
    first = child("sh", "-c", "trap 'sleep 0.3; exit 0' TERM; echo ready; while :; do sleep 0.05; done", name="first")
    second = child("sleep", "60", name="second")
    for one in (first, second):
        one.start()
    wait_for(lambda: first.last_words() == "ready", 5, "ready child")
    stop([(5, [first]), (5, [second])])
    assert (first.code, second.code) == (0, -signal.SIGTERM)


def test_nothing_outlives_a_killed_supervisor():
    parent = python(PARENT)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive(pid), 5, "end of the orphan")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_rest_ends_when_asked_to_stop(number):
    process = python(RESTS)
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=5)[0] == "stopped\n"


def test_a_rest_ends_when_a_child_ends():
    began = time.monotonic()
    source = RESTS.replace("    try:", '    import subprocess; subprocess.Popen(["true"])\n    try:')
    assert python(source).communicate(timeout=5)[0] == "resting\n"
    assert time.monotonic() - began < 5


def test_the_last_three_logs_are_kept(tmp_path):
    log = tmp_path / "portal.log"
    for text in "abcde":
        log.write_text(text)
        rotate(log)
    assert sorted((file.name, file.read_text()) for file in tmp_path.iterdir()) == [
        ("portal.log.1", "e"),
        ("portal.log.2", "d"),
        ("portal.log.3", "c"),
    ]


def test_it_is_in_a_group_of_its_own(child):
    one = child("sleep", "60")
    one.start()
    assert os.getpgid(one.pid) == one.pid
