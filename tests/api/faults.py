"""A server that misbehaves on the wire: each connection is given to a function, with the request read."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engines.api.client import EnginesClient
from tests.api.contract import Key

KEY = "inf_do-not-show-me"


@dataclass
class Wire:
    base_url: str = ""
    requests: list[bytes] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)  # set at the end of the test

    def client(self, **options: Any) -> EnginesClient:
        return EnginesClient(base_url=self.base_url, key=Key(KEY), **options)


Behave = Callable[[socket.socket, Wire], None]


@contextlib.contextmanager
def wire(*behaviours: Behave) -> Iterator[Wire]:
    """Behave so with one connection after the other; with all after the last as with the last."""
    found = Wire()
    with socket.create_server(("127.0.0.1", 0)) as server:
        found.base_url = f"http://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=_serve, args=(server, behaviours, found), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.released.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(server: socket.socket, behaviours: tuple[Behave, ...], found: Wire) -> None:
    for number in range(1000):
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            found.requests.append(connection.recv(65536))
            behaviours[min(number, len(behaviours) - 1)](connection, found)


def answers(body: bytes, status: str = "200 OK", *headers: str) -> Behave:
    """Answer well-formed HTTP, and close."""

    def behave(connection: socket.socket, _: Wire) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode() + body)

    return behave


def resets(connection: socket.socket, _: Wire) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hangs_up(connection: socket.socket, _: Wire) -> None:
    """Close in an orderly way, without a word."""


def stops_halfway(connection: socket.socket, _: Wire) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"id": "eng')


def is_silent(_: socket.socket, found: Wire) -> None:
    found.released.wait(10)


def never_ends(connection: socket.socket, found: Wire) -> None:
    """Send 50 MB of list."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[")
    for _ in range(50):
        connection.sendall(b"1," * 500_000)
