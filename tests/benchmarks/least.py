"""B14's other peer: `POST /run` with nothing but what a task that is not lost needs.

One row, committed as the control plane's are, then the frame to an engine. No key is looked at, no worker chosen, no
history kept: what is left is uvicorn, a thread, the disk, and the socket. `PEER_DATABASE` names the file.
"""

import asyncio
import itertools
import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings

SETTINGS = settings.DATABASES["default"]["OPTIONS"]["init_command"]


class Least:
    def __init__(self, path):
        self._thread = ThreadPoolExecutor(1)  # SQLite lets one write
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(f"{SETTINGS}; CREATE TABLE task (id TEXT PRIMARY KEY, body BLOB)")
        self._fill_log()
        self._numbers, self._engines = itertools.count(), {}

    def _fill_log(self):
        """Give SQLite's log the length that it keeps once it is full, as the control plane's has by then."""
        (length,) = self._database.execute("PRAGMA wal_autocheckpoint").fetchone()
        self._database.executescript(
            f"BEGIN; CREATE TABLE filling (bytes); INSERT INTO filling VALUES (zeroblob({4096 * length})); ROLLBACK;"
            "PRAGMA user_version = 1"
        )

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await self._hold(scope, receive, send)
        elif scope["type"] == "http":
            body = (await receive())["body"]
            await _answer(send, await self._run(body) if scope["path"] == "/run" else self._register())

    def _register(self):
        return {"engine_id": str(next(self._numbers))}

    async def _run(self, body):
        number = next(self._numbers)
        task = f"task_{number:022}"
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store, task, body)
        given = {"task_id": task, "worker_id": "w" * 26, "app": "sleep", "input": {"seconds": 0}}
        text = json.dumps({"type": "task", "data": given})
        await self._engines[str(number % len(self._engines))]({"type": "websocket.send", "text": text})
        return {"id": task}

    def _store(self, task, body):
        self._database.execute("INSERT INTO task VALUES (?, ?)", (task, body))

    async def _hold(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "engines.v1"})
        self._engines[scope["path"].split("/")[2]] = send
        while (message := await receive())["type"] == "websocket.receive":
            if json.loads(message["text"])["type"] == "hello":
                await send({"type": "websocket.send", "text": json.dumps({"type": "welcome", "data": {}})})


async def _answer(send, document):
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


application = Least(os.environ["PEER_DATABASE"])
