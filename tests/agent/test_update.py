"""An engine that is told to become another version, from the frame to the new process; and how that may fail."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import threading
import zipfile

import pytest

from engines.agent import package
from tests.agent.distribution import Distribution, respond
from tests.agent.process import SOURCE_TREE, AgentProcess

ARCHIVE = f"/v1.3.0/inferencesh-engine-v1.3.0-{package.PLATFORMS[0]}.tar.gz"
# Without the capability that lets root write everywhere, then the command that follows.
AS_ANYBODY = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="session")
def newer(dist, tmp_path_factory):
    """A release tree: v1.3.0 is stable, v1.2.3 and v1.1.0 are older."""
    tree = tmp_path_factory.mktemp("newer")
    for version in ("v1.1.0", "v1.2.3", "v1.3.0"):
        package.build(version, tree)
    return tree


@pytest.fixture
def shop(newer):
    distribution = Distribution(newer)
    yield distribution
    distribution.stop()


@pytest.fixture
def file(dist, tmp_path):
    """The installed engine, v1.2.3, alone in its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return shutil.copy2(dist / "v1.2.3" / "inferencesh-engine", folder / "engine")


@pytest.fixture
def engine(start, bare_python, file):
    return start(program=[bare_python, str(file)])


def ask(line, shop, epoch=1, version="stable", path="/manifest.json"):
    line.send("update", epoch=epoch, version=version, manifest_url=shop.url + path)


def drained(line, epoch=1):
    line.send("drain", epoch=epoch)
    line.wait("drained", epoch=epoch)


@pytest.fixture
def ready(line, shop):
    """The connection of an engine that has v1.3.0 ready and is drained."""
    ask(line, shop)
    line.wait("update_status", phase="ready")
    drained(line, epoch=7)
    return line


def works(line, task="after"):
    line.assign(task, seconds=0)
    assert line.wait("task_result", task_id=task)["status"] == "completed"


class Gate:
    """An archive that is sent only when the test says so; the first half comes at once."""

    def __init__(self, shop, path=ARCHIVE):
        self.open = threading.Event()
        self.content = (shop.tree / path.lstrip("/")).read_bytes()
        shop.answers[path] = self

    def __call__(self, request):
        half = len(self.content) // 2
        respond(request, self.content[:half], len(self.content))
        self.open.wait(20)
        request.wfile.write(self.content[half:])


# The way it should go


def test_it_gets_ready_and_says_so(line, shop):
    ask(line, shop)
    line.wait("update_status", phase="ready")
    said = line.data("update_status")
    assert [(status["phase"], status["version"]) for status in said] == [
        ("fetching", ""),
        ("fetching", "v1.3.0"),
        ("ready", "v1.3.0"),
    ]


def test_it_comes_back_as_the_new_version(plane, ready):
    ready.send("restart", epoch=7)
    hello = plane.connection(2).wait("hello")
    assert (hello["version"], hello["mode"], hello["drain_epoch"]) == ("v1.3.0", "running", 0)
    assert hello["boot_id"] != ready.data("hello")[0]["boot_id"]


def test_it_says_goodbye_before_it_goes(ready):
    ready.send("restart", epoch=7)
    ready.wait_ended()
    assert ready.close_code == 1000


def test_the_new_version_works_in_the_same_process(engine, plane, ready):
    ready.send("restart", epoch=7)
    works(plane.connection(2))
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0


def test_it_keeps_its_flags_its_id_and_its_key(plane, ready):
    ready.send("restart", epoch=7)
    plane.connection(2)
    first, second = (body["local_engine_state"] for body in plane.registrations)
    assert (second["name"], second["id"]) == (first["name"], "eng_1")


def test_it_is_started_again_with_the_same_words(engine, plane, ready):
    before = engine.command_line
    ready.send("restart", epoch=7)
    plane.connection(2)
    assert (engine.command_line, b"serve" in before) == (before, True)


def test_the_old_file_is_kept_beside_the_new_one(plane, ready, file, dist, newer):
    ready.send("restart", epoch=7)
    works(plane.connection(2))
    assert file.read_bytes() == (newer / "v1.3.0" / "inferencesh-engine").read_bytes()
    previous = file.with_name("engine.previous")
    assert previous.read_bytes() == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()
    assert sorted(file.parent.iterdir()) == [file, previous]


def test_asked_again_as_the_new_version_it_is_current(plane, ready, shop):
    ready.send("restart", epoch=7)
    again = plane.connection(2)
    ask(again, shop)
    assert again.wait("update_status", phase="current")["version"] == "v1.3.0"


def test_it_takes_tasks_while_it_fetches(line, shop):
    gate = Gate(shop)
    ask(line, shop)
    line.wait("update_status", version="v1.3.0")
    works(line, "meanwhile")
    assert not line.data("update_status", phase="ready")
    gate.open.set()
    line.wait("update_status", phase="ready")


def test_a_running_task_is_not_touched_until_the_drain_has_waited_for_it(plane, line, shop):
    line.assign("long", seconds=1)
    ask(line, shop)
    line.wait("update_status", phase="ready")
    drained(line)
    assert line.data("task_result", task_id="long", status="completed")


def test_an_exact_tag_may_go_down(line, shop):
    ask(line, shop, version="v1.1.0", path="/v1.1.0/manifest.json")
    assert line.wait("update_status", phase="ready")["version"] == "v1.1.0"


@pytest.mark.parametrize(
    ("version", "path"),
    [("stable", "/v1.1.0/manifest.json"), ("canary", "/v1.2.3/manifest.json"), ("v1.2.3", "/v1.2.3/manifest.json")],
)
def test_with_nothing_newer_it_is_current(line, shop, version, path):
    ask(line, shop, version=version, path=path)
    line.wait("update_status", phase="current")
    assert shop.asked == [path]


# Asked again, asked otherwise


def test_the_same_epoch_again_is_answered_and_not_started_over(plane, line, shop):
    ask(line, shop)
    line.wait("update_status", phase="ready")
    ask(line, shop)
    plane.until(lambda: len(line.data("update_status", phase="ready")) == 2, "the status again")
    assert shop.asked == ["/manifest.json", ARCHIVE]


def test_a_newer_epoch_takes_the_place_of_one_that_is_fetched(line, shop, file):
    gate = Gate(shop)
    ask(line, shop)
    line.wait("update_status", version="v1.3.0")
    ask(line, shop, epoch=2, version="v1.1.0", path="/v1.1.0/manifest.json")
    line.wait("update_status", epoch=2, phase="ready")
    gate.open.set()
    drained(line)
    assert not line.data("update_status", epoch=1, phase="ready")
    assert len(list(file.parent.iterdir())) == 2  # the engine and the one folder that waits


def test_what_happens_without_a_connection_is_told_on_the_next(plane, line, shop):
    gate = Gate(shop)
    ask(line, shop)
    line.wait("update_status", version="v1.3.0")
    plane.welcomes = False
    line.close()
    again = plane.connection(2)
    gate.open.set()
    again.send("welcome", engine_id="eng_1")
    again.wait("update_status", phase="ready")


# What goes wrong with the release: one engine for all, which must stay as it is


@pytest.fixture(scope="module")
def staying(listening, bare_python, dist, tmp_path_factory):
    listening.forget()
    folder = tmp_path_factory.mktemp("staying")
    (folder / "engine.toml").write_text("heartbeat_seconds = 0.05\n")
    (folder / "bin").mkdir()
    file = shutil.copy2(dist / "v1.2.3" / "inferencesh-engine", folder / "bin" / "engine")
    flags = ("--config", str(folder / "engine.toml"))
    engine = AgentProcess(listening.url, folder / "state", *flags, program=[bare_python, str(file)])
    yield listening.connection(), file, iter(range(1, 100))
    engine.end()


def refused(staying, url, version="stable"):
    """The words with which the engine fails this update, after which it is as before."""
    line, file, epochs = staying
    epoch, before = next(epochs), file.stat()
    line.send("update", epoch=epoch, version=version, manifest_url=url)
    error = line.wait("update_status", epoch=epoch, phase="failed")["error"]
    works(line, f"after-{epoch}")
    assert list(file.parent.iterdir()) == [file]
    assert file.stat() == before or file.stat().st_mtime == before.st_mtime
    return error


def test_a_wrong_sum_is_refused(staying, shop):
    assert "does not have the SHA-256" in refused(staying, shop.offer("v2.0.0", b"", sha256="0" * 64))


def test_a_download_that_breaks_off_is_refused(staying, shop):
    content = (shop.tree / ARCHIVE.lstrip("/")).read_bytes()
    shop.answers[ARCHIVE] = lambda request: respond(request, content[:5000], len(content))
    assert "cannot be fetched: peer closed connection" in refused(staying, f"{shop.url}/manifest.json")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('no libraries here')", "does not start: 'version' ended with 1: no libraries here"),
        ("this is no Python", "does not start"),
        ("print('v2.0.1')", "says that it is 'v2.0.1'"),
        ("print('v' * 100_000)", "says more than"),
        ("import sys; print('v2.0.0') if 'version' in sys.argv else sys.exit('unknown flag --name')", "unknown flag"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
    ],
)
def test_a_build_that_does_not_stand_the_trial_is_refused(staying, shop, program, words):
    assert words in refused(staying, shop.offer("v2.0.0", program.encode()))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"<html>hello</html>", "not a release manifest: no JSON"),
        (b"[]", "not a release manifest"),
        (b'{"version": "newest", "builds": {}}', "needs a version such as v1.2.3"),
        (b'{"version": "v2.0.0", "builds": {}}', "has no build for linux-"),
        (b'{"version": "v2.0.0", "builds": {"linux-amd64": 1, "linux-arm64": 1}}', "gives no url and sha256"),
        (b" " * 300_000, "has more than 262144 bytes"),
    ],
)
def test_a_manifest_that_is_none_is_refused(staying, shop, manifest, words):
    shop.answers["/garbage.json"] = manifest
    assert words in refused(staying, f"{shop.url}/garbage.json")


def test_an_archive_that_is_none_is_refused(staying, shop):
    assert "cannot be unpacked" in refused(staying, offer_archive(shop, b"no archive"))


def test_an_archive_without_the_expected_file_is_refused(staying, shop):
    shop.offer("v2.0.0", b"")
    archive = shop.answers[next(path for path in shop.answers if path.endswith(".tar.gz"))]
    assert "does not hold a file other" in refused(staying, offer_archive(shop, archive))


def offer_archive(shop, content):
    shop.answers["/other.tar.gz"] = content
    return shop.offer("v2.0.0", b"", url="other.tar.gz", sha256=hashlib.sha256(content).hexdigest())


def test_a_manifest_that_is_not_there_is_refused(staying, shop):
    assert "the server answers 404" in refused(staying, f"{shop.url}/nothing.json")


def test_a_server_that_is_not_there_is_refused(staying, shop):
    shop.stop()
    assert "cannot be fetched" in refused(staying, f"{shop.url}/manifest.json")


@pytest.mark.parametrize("url", ["http://192.0.2.1/manifest.json", "file:///etc/passwd", "manifest.json"])
def test_only_https_is_taken_from_elsewhere(staying, url):
    assert "must come over https" in refused(staying, url)


def test_a_redirect_is_no_way_around_https(staying, shop):
    def elsewhere(request):
        request.send_response(302)
        request.send_header("Location", "http://192.0.2.1/manifest.json")
        request.end_headers()

    shop.answers["/moved.json"] = elsewhere
    assert "http://192.0.2.1/manifest.json is not fetched" in refused(staying, f"{shop.url}/moved.json")


def test_a_manifest_of_another_tag_is_refused(staying, shop):
    assert "is for v1.3.0, not for v1.4.0" in refused(staying, f"{shop.url}/manifest.json", "v1.4.0")


# What goes wrong on the host


def test_a_full_disk_is_said(start, plane, bare_python, file, shop):
    start(program=["bash", "-c", 'ulimit -f 300; exec "$0" "$@"', bare_python, str(file)])
    line = plane.connection()
    ask(line, shop)
    error = line.wait("update_status", phase="failed")["error"]
    assert error == f"v1.3.0 cannot be stored in {file.parent}: File too large: make room there"
    assert list(file.parent.iterdir()) == [file]
    works(line)


def test_a_folder_that_it_may_not_write_to_is_said(start, plane, bare_python, file, shop):
    file.parent.chmod(0o555)
    start(program=[bare_python, "-c", AS_ANYBODY, bare_python, str(file)])
    line = plane.connection()
    ask(line, shop)
    error = line.wait("update_status", phase="failed")["error"]
    assert error.endswith("Permission denied: the engine's user must be allowed to write there")
    works(line)


def test_a_source_tree_does_not_update_itself(start, plane, shop):
    start()
    line = plane.connection()
    ask(line, shop)
    assert "runs from a source tree" in line.wait("update_status", phase="failed")["error"]


def test_what_a_killed_engine_left_is_removed_by_the_next_update(line, engine, shop, file, start, bare_python, plane):
    gate = Gate(shop)
    ask(line, shop)
    line.wait("update_status", version="v1.3.0")
    engine.end()
    gate.open.set()
    start(program=[bare_python, str(file)])
    again = plane.connection(2)
    ask(again, shop)
    again.wait("update_status", phase="ready")
    assert len(list(file.parent.iterdir())) == 2


# A version that passes the trial and does not serve


@pytest.fixture
def lame(newer):
    """A program that says it is v1.3.0 and accepts its flags, and ends when it has to serve."""
    return changed(newer, "engines/agent/serve.py", lambda _: b"async def serve(config):\n    return 7\n")


@pytest.fixture
def mute(newer):
    """One that serves, and has forgotten how to register."""
    broken = b"async def register(*_):\n    raise KeyError('forgotten')\n\n\nasync def _unused("
    return changed(newer, "engines/agent/registration.py", lambda text: text.replace(b"async def register(", broken, 1))


def changed(tree, name, change):
    """v1.3.0 with one of its modules changed."""
    program = (tree / "v1.3.0" / "inferencesh-engine").read_bytes()
    source, target = zipfile.ZipFile(io.BytesIO(program)), io.BytesIO(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(target, "a") as file:
        for each in source.namelist():
            file.writestr(each, change(source.read(each)) if each == name else source.read(each))
    return target.getvalue()


def test_one_that_ends_before_it_is_connected_makes_way_for_the_version_before(line, engine, shop, lame, file, dist):
    shop.offer("v1.3.0", lame)
    ask(line, shop, path="/made.json")
    line.wait("update_status", phase="ready")
    drained(line)
    line.send("restart", epoch=1)
    again = line.plane.connection(2)
    assert again.wait("hello")["version"] == "v1.2.3"
    assert "ended with 7 before it was connected" in engine.says("takes its place again")
    assert file.read_bytes() == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()
    assert list(file.parent.iterdir()) == [file]
    works(again)


def test_one_that_can_not_connect_makes_way_too(line, engine, shop, mute):
    shop.offer("v1.3.0", mute)
    ask(line, shop, path="/made.json")
    line.wait("update_status", phase="ready")
    drained(line)
    line.send("restart", epoch=1)
    assert line.plane.connection(2).wait("hello")["version"] == "v1.2.3"
    engine.says("KeyError: 'forgotten'")


def test_one_that_a_person_put_in_place_makes_way_too(start, plane, bare_python, update, shop, lame, file):
    shop.offer("v1.3.0", lame)
    shop.answers["/manifest.json"] = shop.answers["/made.json"]
    assert update("--manifest-base", shop.url).returncode == 0
    start(program=[bare_python, str(file)])
    assert plane.connection().wait("hello")["version"] == "v1.2.3"


def test_one_that_was_connected_stays_however_it_ends(engine, plane, ready, file, newer):
    ready.send("restart", epoch=7)
    engine.says("v1.3.0 is in place")
    again = plane.connection(2)
    works(again)
    plane.key = "another"
    again.close()
    assert engine.exits() == 2
    assert file.read_bytes() == (newer / "v1.3.0" / "inferencesh-engine").read_bytes()


def test_one_that_is_stopped_before_it_is_connected_stays(engine, plane, ready, file, newer):
    plane.welcomes = False
    ready.send("restart", epoch=7)
    plane.connection(2)
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0
    assert file.read_bytes() == (newer / "v1.3.0" / "inferencesh-engine").read_bytes()


# The restart that cannot be


def test_a_restart_with_nothing_prepared_fails_and_work_goes_on(line):
    drained(line, epoch=3)
    line.send("restart", epoch=3)
    assert "no update that is fetched and tried" in line.wait("update_status", phase="failed")["error"]
    works(line)
    line.wait("heartbeat", mode="running")


def test_a_restart_for_another_drain_is_ignored(engine, ready):
    ready.send("restart", epoch=6)
    engine.says("told to restart for drain 6, which is not the one obeyed")
    assert not ready.ended


def test_a_build_that_is_gone_at_the_swap_leaves_the_old_one_at_work(ready, file, dist):
    (waiting,) = (path for path in file.parent.iterdir() if path != file)
    shutil.rmtree(waiting)
    ready.send("restart", epoch=7)
    assert "cannot be replaced" in ready.wait("update_status", phase="failed")["error"]
    works(ready)
    assert file.read_bytes() == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()


def test_a_python_that_cannot_start_again_puts_the_old_file_back(start, plane, bare_python, file, shop, dist, tmp_path):
    python = tmp_path / "python"
    python.symlink_to(os.path.realpath(bare_python))
    start(program=[str(python), str(file)])
    line = plane.connection()
    ask(line, shop)
    line.wait("update_status", phase="ready")
    drained(line)
    python.rename(tmp_path / "away")
    line.send("restart", epoch=1)
    again = plane.connection(2)
    status = again.wait("update_status", phase="failed")
    assert (status["version"], "cannot be started" in status["error"]) == ("v1.3.0", True)
    assert file.read_bytes() == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()
    (tmp_path / "away").rename(python)
    works(again)


# The host's own word


def test_sigterm_goes_before_a_download(engine, line, shop, file):
    Gate(shop)
    ask(line, shop)
    line.wait("update_status", version="v1.3.0")
    engine.signal(signal.SIGTERM)
    assert engine.exits() == 0
    assert list(file.parent.iterdir()) == [file]


def test_sigterm_goes_before_a_restart(engine, ready, file, dist):
    engine.signal(signal.SIGTERM)
    engine.says("asked to stop")
    ready.send("restart", epoch=7)
    assert engine.exits() == 0
    assert file.read_bytes() == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()


# Typed on the host


@pytest.fixture
def update(bare_python, file):
    def update(*flags, program=(bare_python, str(file))):
        return subprocess.run([*program, "update", *flags], capture_output=True, text=True, timeout=30)

    return update


def test_a_person_may_replace_the_file(update, shop, file, newer):
    done = update("--manifest-base", shop.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "v1.2.3 is replaced by v1.3.0" in done.stdout
    assert "stop it and start it again" in done.stdout
    assert file.read_bytes() == (newer / "v1.3.0" / "inferencesh-engine").read_bytes()
    left = [file.with_name(name) for name in ("engine.previous", "engine.unproven")]
    assert sorted(file.parent.iterdir()) == [file, *left]


def test_without_a_base_the_api_is_asked(update, newer, tmp_path, file):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "engine").symlink_to(newer)
    shop = Distribution(tmp_path)
    try:
        assert update("--api-url", shop.url, "--version", "v1.1.0").returncode == 0
    finally:
        shop.stop()
    assert shop.asked[0] == "/dist/engine/v1.1.0/manifest.json"


def test_a_file_that_is_current_is_a_success(update, shop, file):
    package.build("v1.2.3", file.parent / "tree", channel="canary")
    shop.tree = file.parent / "tree"
    done = update("--manifest-base", f"{shop.url}/", "--version", "canary")
    assert (done.returncode, done.stdout) == (0, "v1.2.3 is current (canary is v1.2.3): nothing to do\n")


def test_a_failure_is_said_in_words(update, shop, file):
    done = update("--manifest-base", shop.url, "--version", "v9.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"not updated: {shop.url}/v9.0.0/manifest.json cannot be fetched: the server answers 404\n"


def test_a_source_tree_is_not_replaced(update, shop):
    done = update("--manifest-base", shop.url, program=SOURCE_TREE)
    assert (done.returncode, done.stderr[:46]) == (1, "not updated: this engine runs from a source tr")


def test_an_engine_that_runs_meanwhile_goes_on_as_it_is(line, update, shop):
    assert update("--manifest-base", shop.url).returncode == 0
    works(line)
    line.close()
    assert line.plane.connection(2).wait("hello")["version"] == "v1.2.3"


def test_a_file_that_was_replaced_meanwhile_keeps_its_previous(plane, ready, update, shop, file, dist):
    """As when two engines of one host run the same file."""
    assert update("--manifest-base", shop.url).returncode == 0
    ready.send("restart", epoch=7)
    assert plane.connection(2).wait("hello")["version"] == "v1.3.0"
    previous = file.with_name("engine.previous").read_bytes()
    assert previous == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()
