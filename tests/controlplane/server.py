"""The control plane as a process of its own, with a database of its own, that a test may kill."""

import contextlib
import copy
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from engines import wire
from tests.migrated import own_database

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 20.0  # seconds that anything may take


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Server:
    application = "engines.controlplane.asgi:application"
    options = ()  # more of uvicorn's

    def __init__(self, folder, team="acme", **environment):
        self.port = free_port()
        self._process = None
        self._log = (folder / "log").open("ab")
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.controlplane.crash_settings",
            "DATA_DIR": str(folder),
            "SERVES": "api",
            "EMBEDDED": "1",
            "API_PORT": str(self.port),
            **own_database("controlplane", folder),
            **environment,
        }
        self._act_for(team)

    def _act_for(self, team):
        self.team = team
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = self.make_key(team)
        headers = {"Authorization": f"Bearer {self.key}", "X-API-Version": "2"}
        self.http = httpx.Client(base_url=self.url, headers=headers, trust_env=False)

    @contextlib.contextmanager
    def as_seen_by(self, team, port=None):
        """Give this server as this team's clients have it, by way of another port if given."""
        other = copy.copy(self)
        other.port = port or self.port
        other._act_for(team)
        with other.http:
            yield other

    def said(self):
        """Everything in its log."""
        return Path(self._log.name).read_text()

    def run_command(self, *words):
        """Run one of manage.py's commands on this server's database; return what it printed."""
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, env=self._environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def make_key(self, team, *scopes):
        """Return the text of a new key; no scopes mean all of them."""
        return self.run_command(
            "create_api_key", "--team", team, "--name", "tests", "--scopes", ",".join(scopes)
        ).strip()

    def start(self, failpoints=""):
        words = ["uvicorn", self.application, "--port", str(self.port), "--log-level", "warning", *self.options]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words, "--timeout-graceful-shutdown", "3"],
            env={**self._environment, "FAILPOINTS": failpoints},
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
        )
        until(self._answers, "the server")

    def _answers(self):
        try:
            return self.http.get("/healthz").is_success
        except httpx.TransportError:
            return False

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self):
        """SIGTERM; return the seconds it took."""
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(PATIENCE)
        return time.monotonic() - began

    def wait_dead(self):
        self._process.wait(PATIENCE)

    def close(self):
        self.kill()
        self.http.close()
        self._log.close()

    # What an API client does

    def register(self, name="gpu-1", cpus=1, engine_id="", boot="boot-1"):
        state = {"id": engine_id, "name": name, "boot_id": boot}
        body = {"local_engine_state": state, "worker_config": {"cpu": {"count": cpus}}}
        return self.http.post("/engines/register", json=body).raise_for_status().json()["engine_id"]

    def socket(self, engine_id, key=None, **options):
        options = {"subprotocols": [wire.SUBPROTOCOL]} | options
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        url = f"ws://127.0.0.1:{self.port}/engines/{engine_id}/ws"
        return connect(url, additional_headers=headers, proxy=None, open_timeout=PATIENCE, **options)

    def greet(self, engine_id, boot="boot-1", running=(), results=(), mode="running", drain_epoch=0):
        """Connect, say hello, and return the connection."""
        line = Line(self.socket(engine_id))
        running = [{"task_id": task_id} for task_id in running]
        told = {"boot_id": boot, "mode": mode, "drain_epoch": drain_epoch, "running": running, "results": list(results)}
        line.say("hello", **told)
        line.wait("welcome")
        return line

    def run(self, app="sleep", **more):
        return self.http.post("/run", json={"app": app, **more}).raise_for_status().json()["id"]

    def task(self, task_id):
        return self.http.get(f"/tasks/{task_id}").raise_for_status().json()

    def engine(self, engine_id):
        return self.http.get(f"/engines/{engine_id}").raise_for_status().json()

    def drain(self, engine_id):
        return self.http.post(f"/engines/{engine_id}/drain")


class Line:
    """An engine's end of the socket."""

    def __init__(self, connecting):
        self._until_hung_up = contextlib.ExitStack()
        self.websocket = self._until_hung_up.enter_context(connecting)
        self.heard = []

    def say(self, kind, **data):
        self.websocket.send(json.dumps({"type": kind, "data": data}))

    def wait(self, kind):
        """Return the data of the next frame of this kind; others are put aside in `heard`."""
        while True:
            frame = json.loads(self.websocket.recv(PATIENCE))
            self.heard.append(frame["type"])
            if frame["type"] == kind:
                return frame["data"]

    def code(self):
        """Wait for the end and return its close code and reason."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.websocket.recv(PATIENCE)
        return self.websocket.close_code, self.websocket.close_reason

    def hang_up(self):
        self._until_hung_up.close()


def until(condition, what, seconds=PATIENCE):
    """Wait for something that another process brings about, and return it."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > limit:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.05)
    return found
