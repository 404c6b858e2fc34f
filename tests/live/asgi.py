"""A browser's side of one ASGI request, by hand: Django's test client waits for the end of an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from django.core.asgi import get_asgi_application


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._body: asyncio.Queue[bytes] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            return
        if message.get("body"):
            self._body.put_nowait(message["body"])
        if not message.get("more_body"):
            self.ended = True
            self._body.put_nowait(b"")

    async def until(self, text: bytes = b"", seconds: float = 5) -> bytes:
        """Return what comes, up to and with the text; without one, up to the end of the answer."""
        found = b""
        async with asyncio.timeout(seconds):
            while not self.ended and (not text or text not in found):
                found += await self._body.get()
        return found

    def leave(self) -> None:
        self._gone.set()


@asynccontextmanager
async def get(path: str, cookie: str = "", method: str = "GET") -> AsyncIterator[Answer]:
    """Ask for the path and go on while the answer lasts; leave at the end of the block."""
    headers = [(b"host", b"localhost"), (b"cookie", cookie.encode())]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "scheme": "http",
    }
    answer = Answer()
    task = asyncio.create_task(get_asgi_application()(scope, answer.receive, answer.send))  # type: ignore[arg-type]
    try:
        yield answer
    finally:
        answer.leave()
        await asyncio.wait_for(task, 5)
