"""The script that a rented machine runs: tried for real, in a folder in place of the machine's root."""

import base64
import hashlib
import http.server
import io
import json
import os
import platform
import shlex
import subprocess
import tarfile
import threading
from dataclasses import replace
from functools import partial

import pytest

from engines.agent import package
from engines.controlplane.providers import launch
from engines.controlplane.providers.base import Refused
from tests.agent.scripted import KEY, ScriptedControlPlane
from tests.providers.conftest import ENGINE_KEY

PROGRAM = b"#!/usr/bin/env python3\nprint('the engine')\n"
# What only root on a machine of its own may do. Each writes down how it was called.
COMMANDS = ("systemctl", "useradd", "chown", "sudo")
PLATFORM = "linux-" + {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def dist(tmp_path):
    """A tree with one release, served; its folder and the API's address."""
    folder = tmp_path / "served" / "dist" / "engine"
    (folder / "v1.2.3").mkdir(parents=True)
    name = f"inferencesh-engine-v1.2.3-{PLATFORM}"
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as file:
        entry = tarfile.TarInfo(name)
        entry.size = len(PROGRAM)
        file.addfile(entry, io.BytesIO(PROGRAM))
    (folder / "v1.2.3" / f"{name}.tar.gz").write_bytes(target.getvalue())
    sha256 = hashlib.sha256(target.getvalue()).hexdigest()
    build = {"url": f"v1.2.3/{name}.tar.gz", "binaryName": name, "sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps({"version": "v1.2.3", "builds": {PLATFORM: build}}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Machine:
    """A folder that the script takes for a machine."""

    def __init__(self, tmp_path):
        self.root, self.commands = tmp_path / "root", tmp_path / "commands"
        self.commands.mkdir()
        for command in COMMANDS:
            self.fake(command, f'echo "{command} $*" >> {tmp_path}/called')
        self.fake("sleep", "exit 0")  # between two tries; the script tries as often as without it
        self.called = tmp_path / "called"

    def fake(self, command, does):
        path = self.commands / command
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def run(self, order_launch):
        script = self.commands / "script"
        encoded = launch.configuration(order_launch)["script_configuration"]["base64_script"]
        script.write_bytes(base64.b64decode(encoded))
        env = {"PATH": f"{self.commands}:{os.environ['PATH']}", "INSTALL_ROOT": str(self.root)}
        return subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True, timeout=60)

    def read(self, path):
        return (self.root / path).read_text()


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.fake("id", '[ "$1" = -u ] && [ $# = 1 ] && echo 0')  # root, and no such user yet
    made.fake("nvidia-smi", "exit 9")
    return made


@pytest.fixture
def boots(machine, dist, order):
    """Runs the script for an order with these changes; returns the finished process."""
    return lambda **changes: machine.run(replace(order.launch, api_url=dist[1], **changes))


def started(machine):
    """The words of the unit's ExecStart, as systemd would read them."""
    unit = machine.read("etc/systemd/system/inferencesh-engine.service")
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]


def test_it_installs_the_engine_and_starts_it(machine, boots):
    done = boots()
    assert done.returncode == 0, done.stderr
    engine = machine.root / "opt/inferencesh-engine/engine"
    assert engine.read_bytes() == PROGRAM
    assert engine.stat().st_mode & 0o777 == 0o755
    assert "systemctl enable --now inferencesh-engine.service" in machine.called.read_text()


def test_the_engine_gets_its_address_name_and_id(machine, boots, dist):
    boots()
    python, engine, command, *flags = started(machine)
    assert "python3" in python
    assert (engine, command) == ("/opt/inferencesh-engine/engine", "serve")
    assert flags[:3] == [f"--api-url={dist[1]}", "--name=gpu box", "--engine-id=eng_1"]


@pytest.mark.parametrize("name", ['a "b" $HOME `id` \\ 100% é', "x\ny'; touch /tmp/no", "END_OF_FILE_e2c1", "@key@"])
def test_a_name_is_only_a_name(machine, boots, name):
    assert boots(engine_name=name).returncode == 0
    assert f"--name={name.replace(chr(10), '')}" in started(machine)


def test_the_key_is_in_a_file_for_root_alone(machine, boots):
    done = boots()
    file = machine.root / "etc/inferencesh-engine/key.env"
    assert file.stat().st_mode & 0o777 == 0o600
    escaped = ENGINE_KEY.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    assert file.read_text() == f'INFERENCE_API_KEY="{escaped}"\n'
    assert ENGINE_KEY not in done.stdout + done.stderr + machine.called.read_text() + repr(started(machine))


def test_each_gpu_gets_a_worker(machine, boots):
    machine.fake("nvidia-smi", "echo 'GPU 0: NVIDIA A6000'; echo 'GPU 1: NVIDIA A6000'")
    boots()
    config = json.loads(machine.read("etc/inferencesh-engine/engine.json"))
    assert config == {"workers": {"gpu": [{"gpus": [0]}, {"gpus": [1]}]}}


def test_without_gpus_the_engines_default_holds(machine, boots):
    boots()
    assert json.loads(machine.read("etc/inferencesh-engine/engine.json")) == {}


def test_an_archive_with_another_sum_is_not_installed(machine, boots, dist):
    manifest = dist[0] / "manifest.json"
    content = json.loads(manifest.read_text())
    content["builds"][PLATFORM]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    done = boots()
    assert done.returncode == 1
    assert "does not have the SHA-256" in done.stderr
    assert not (machine.root / "opt/inferencesh-engine/engine").exists()
    assert "systemctl" not in machine.called.read_text()


def test_run_again_it_ends_in_the_same_state(machine, boots):
    boots()
    first = sorted(path.read_bytes() for path in machine.root.rglob("*") if path.is_file())
    assert boots().returncode == 0
    assert sorted(path.read_bytes() for path in machine.root.rglob("*") if path.is_file()) == first


def test_who_is_not_root_asks_sudo(machine, boots):
    machine.fake("id", "echo 1000")
    assert boots().returncode == 0
    assert machine.called.read_text().startswith("sudo -n -- ")
    assert not machine.root.exists()


@pytest.mark.processes
def test_what_it_installs_is_an_engine_that_connects(machine, dist, order):
    package.build("v9.9.9", dist[0])
    plane = ScriptedControlPlane().start()
    # The address is the plane's in the engine's flags; the release lies elsewhere.
    done = machine.run(replace(order.launch, api_url=dist[1], api_key=KEY))
    assert done.returncode == 0, done.stderr
    words = [word.replace(dist[1], plane.url).replace("/var/lib", f"{machine.root}/var") for word in started(machine)]
    words = [
        word.replace("/opt/inf", f"{machine.root}/opt/inf").replace("=/etc/", f"={machine.root}/etc/") for word in words
    ]
    name, _, value = machine.read("etc/inferencesh-engine/key.env").strip().partition("=")
    engine = subprocess.Popen(words, env={"PATH": os.defpath, name: value.strip('"')}, stdout=subprocess.DEVNULL)
    try:
        plane.connection()
        told = plane.registrations[0]
        assert told["local_engine_state"]["id"] == "eng_1"
        assert told["system_info"]["engine_version"] == "v9.9.9"
    finally:
        engine.kill()
        engine.wait()
        plane.stop()


@pytest.mark.parametrize("change", [{"api_key": "two\nlines"}, {"api_key": ""}, {"api_url": "ftp://api.example.com"}])
def test_what_no_machine_could_start_with_is_refused(order, change):
    with pytest.raises(Refused, match="nothing was ordered") as caught:
        launch.script(replace(order.launch, **change))
    assert "two" not in str(caught.value)
