"""The local cloud's host as a process: its own end, sudden or not, and what is left to the next."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.process import alive
from tests.agent.scripted import KEY, ScriptedControlPlane
from tests.providers import local_world
from tests.providers.local_world import HostProcess, World

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(world: World) -> Iterator[Callable[..., HostProcess]]:
    """Starts hosts. In these tests the world's own one only cleans up, by ending every engine that is left."""
    started: list[HostProcess] = []
    world.host.step = lambda: None  # type: ignore[method-assign]

    def start(*flags: str) -> HostProcess:
        started.append(HostProcess(world.folder, *flags))
        return started[-1]

    yield start
    for host in started:
        host.clean()


def runs(world: World, engine: str = "box", name: str = "engine-eng_1") -> str:
    """Order a machine that boots at once, and wait for its engine."""
    world.cloud._boot_seconds = 0.0
    made = world.cloud.create(world.order(name, engine))
    world.until(lambda: world.notes(made, "ready"), "the engine's start")
    return made


def test_the_host_needs_no_django():
    code = "import sys, engines.controlplane.providers.local_host; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_two_hosts_do_not_share_a_folder(world, start):
    start()
    runs(world)
    code, said = start().ends()
    assert code == 4
    assert "another host has the folder" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_end_ends_the_engines_and_keeps_the_machines(world, start, number):
    host = start()
    made = runs(world)
    assert host.ends(number)[0] == 0
    assert not alive(world.pids(made)[0])
    assert len(world.notes(made, "stopped")) == 1
    assert world.machine(made).status == "active"
    start()
    world.until(lambda: len(world.pids(made)) == 2, "the engine's next start")


def test_its_end_takes_less_than_8_seconds_whatever_the_engines_do(world, start):
    host = start()
    made = [runs(world, "stubborn box", f"engine-{number}") for number in range(2)]
    begun = time.monotonic()
    host.ends(signal.SIGTERM)
    assert time.monotonic() - begun < 8
    assert not any(alive(world.pids(one)[0]) for one in made)


def test_an_engine_that_had_ended_by_itself_is_not_started_by_the_next_host(world, start):
    host = start()
    drained = runs(world, "drained box")
    world.until(lambda: world.seen(drained)["exit"] == 0, "its exit code")
    host.ends(signal.SIGTERM)
    start()
    runs(world, name="engine-eng_2")  # by then the host has been at work
    assert len(world.pids(drained)) == 1


def test_engines_outlive_a_killed_host_and_are_taken_over(world, start):
    host = start()
    made = runs(world)
    pid = world.pids(made)[0]
    host.ends(signal.SIGKILL)
    assert alive(pid)
    start()
    runs(world, name="engine-eng_2")
    assert world.pids(made) == [pid]
    os.kill(pid, signal.SIGKILL)
    world.until(lambda: len(world.pids(made)) == 2, "the crashed engine's next start")


def test_an_engine_taken_over_is_ended_with_its_machine(world, start):
    host = start()
    made = runs(world)
    pid = world.pids(made)[0]
    host.ends(signal.SIGKILL)
    start()
    world.cloud.delete(made)
    world.gone(made)
    assert not alive(pid)


def test_the_host_does_not_need_anybody_to_listen(world, start):
    host = start()
    host.process.stdout.close()
    made = runs(world)
    world.cloud.delete(made)
    world.gone(made)
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(local_world.PATIENCE) == 0


def test_how_an_engine_ended_is_known_even_without_a_host(world, start):
    host = start()
    made = runs(world)
    pid = world.pids(made)[0]
    host.ends(signal.SIGKILL)
    os.kill(pid, signal.SIGTERM)
    world.until(lambda: (world.path(made) / "exit").exists(), "its exit code")
    start()
    world.until(lambda: world.seen(made)["exit"] == 0, "the host to know")
    assert world.pids(made) == [pid]


def test_an_engine_whose_start_was_never_noted_is_found(world, start):
    host = start()
    made = runs(world)
    engine = world.seen(made)["engine"]
    host.ends(signal.SIGKILL)
    (world.path(made) / "seen.json").write_text(json.dumps({**world.seen(made), "engine": None}))
    start()
    assert world.until(lambda: world.seen(made)["engine"], "the host to find it") == engine
    assert len(world.pids(made)) == 1


def test_another_process_under_its_number_is_not_its_engine(world, start):
    host = start()
    made = runs(world)
    host.ends(signal.SIGTERM)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    noted = {"pid": stranger.pid, "started": 1, "kernel": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    (world.path(made) / "seen.json").write_text(json.dumps({**world.seen(made), "engine": noted}))
    start()
    world.cloud.delete(made)
    world.gone(made)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.fixture
def plane() -> Iterator[ScriptedControlPlane]:
    listening = ScriptedControlPlane().start()
    yield listening
    listening.stop()


@pytest.fixture
def real(tmp_path: Path, plane: ScriptedControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A cloud of real engines, and its host."""
    monkeypatch.setattr(local_world, "KEY", KEY)
    made = World(tmp_path / "real", command=(), url=plane.url)
    made.host.step = lambda: None  # type: ignore[method-assign]
    made.cloud._boot_seconds = 0.0
    host = HostProcess(made.folder, "--grace", "3")
    yield made
    host.clean()
    made.clean()


def test_a_real_engine_connects_as_the_one_that_was_ordered(real, plane):
    real.cloud.create(real.order(kind="cpu-2"))
    hello = plane.connection()
    assert hello.ended is False
    body = plane.registrations[0]
    assert body["local_engine_state"]["id"] == "eng_1"
    assert body["local_engine_state"]["name"] == "box"
    assert body["worker_config"] == {"gpu": [], "cpu": {"count": 2}}


def test_a_real_engine_comes_back_after_a_restart_with_another_boot_id(real, plane):
    made = real.cloud.create(real.order())
    first = plane.connection()
    real.cloud.restart(made)
    plane.connection(2)
    first.wait_ended()
    boots = [body["local_engine_state"]["boot_id"] for body in plane.registrations]
    assert len(set(boots)) == 2


def test_a_real_engine_that_was_drained_stays_away(real, plane):
    made = real.cloud.create(real.order())
    line = plane.connection()
    line.send("drain", epoch=1)
    line.wait("drained")
    line.send("shutdown", epoch=1)
    real.until(lambda: real.seen(made)["exit"] == 0, "the engine's own end")
    assert len(plane.registrations) == 1


def test_a_real_engine_ends_with_its_machine(real, plane):
    made = real.cloud.create(real.order())
    line = plane.connection()
    line.assign("t1", seconds=60)
    line.wait("task_accepted")
    real.cloud.delete(made)
    real.gone(made)
    line.wait_ended()
