"""A control plane that a test plays by hand: a real HTTP and WebSocket server that speaks wire.py and decides nothing.

It registers engines, welcomes them and acknowledges results unless told not to, and records every frame.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from engines import wire

KEY = "inf_the-right-key-of-this-test"
PATIENCE = 10.0  # seconds that anything may take


class Connection:
    """One socket of an engine, from the server's side."""

    def __init__(self, plane: "ScriptedControlPlane") -> None:
        self.frames: list[dict[str, Any]] = []
        self.ended = False
        self.close_code = 0  # what the engine closed with
        self.outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.plane = plane

    def send(self, kind: str, **data: Any) -> None:
        text = json.dumps({"type": kind, "data": data})
        self._put({"type": "websocket.send", "text": text})

    def close(self, code: int = 1012) -> None:
        self._put({"type": "websocket.close", "code": code})

    def assign(self, task_id: str, app: str = "sleep", worker: str = "w0", **given: Any) -> None:
        self.send("task", task_id=task_id, worker_id=worker, app=app, input=given)

    def data(self, kind: str, **like: Any) -> list[dict[str, Any]]:
        """Data of the frames of `kind` received so far whose members equal `like`."""
        found = [frame["data"] for frame in self.frames if frame["type"] == kind]
        return [data for data in found if like.items() <= data.items()]

    def wait(self, kind: str, **like: Any) -> dict[str, Any]:
        """The first frame of `kind` with such members, now or soon."""
        return self.plane.until(lambda: self.data(kind, **like), f"{kind} {like}")[0]

    def wait_ended(self) -> None:
        self.plane.until(lambda: self.ended, "the end of the connection")

    def _put(self, message: dict[str, Any]) -> None:
        self.plane.loop.call_soon_threadsafe(self.outgoing.put_nowait, message)


class ScriptedControlPlane:
    def __init__(self, port: int = 0) -> None:
        self.forget()
        self._changed = threading.Condition()
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(self._serve, log_level="critical", lifespan="off", interface="asgi3")
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def forget(self) -> None:
        """Be as new: no engine known but the next one, nothing received, the usual answers."""
        self.registrations: list[dict[str, Any]] = []
        self.connections: list[Connection] = []
        self.known = {"eng_1"}  # ids it accepts; a registration without id gets the last of them
        self.key = KEY
        self.welcomes = True
        self.acknowledges = True
        self.gpus: dict[str, list[str]] = {}  # of a worker

    def start(self) -> "ScriptedControlPlane":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(PATIENCE)
        self._socket.close()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something that frames bring about, and return it."""
        with self._changed:
            if not self._changed.wait_for(condition, PATIENCE):
                seen = [connection.frames for connection in self.connections]
                raise AssertionError(f"waited in vain for {what}; seen {seen}")
            return condition()

    def connection(self, number: int = 1) -> Connection:
        """The `number`th connection that said hello."""

        def greeted() -> list[Connection]:
            return [connection for connection in self.connections if connection.data("hello")]

        self.until(lambda: len(greeted()) >= number, f"connection {number}")
        return greeted()[number - 1]

    def tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # The server

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        right = (b"authorization", f"Bearer {self.key}".encode()) in scope["headers"]
        if scope["type"] == "http":
            await self._register(right, receive, send)
        elif not right:
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before accept: 403
        else:
            await self._talk(scope, receive, send)

    async def _register(self, right: bool, receive: Any, send: Any) -> None:
        status, answer = (200, {}) if right else (401, {"title": "Unauthorized", "detail": "unknown key"})
        text = b""
        while (message := await receive()).get("more_body") or message.get("body"):
            text += message["body"]
            if not message["more_body"]:
                break
        if right:
            status, answer = self._registered(json.loads(text))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _registered(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.registrations.append(body)
        self.tell()
        engine_id = body["local_engine_state"]["id"] or max(self.known)
        if engine_id not in self.known:
            return 404, {"title": "Not found", "detail": "no such engine"}
        wanted = body["worker_config"]
        count = len(wanted["gpu"]) + wanted["cpu"]["count"]
        workers: list[dict[str, Any]] = [{"id": f"w{i}", "index": i} for i in range(count)]
        for worker in workers:
            worker["gpus"] = [{"gpu_id": gpu} for gpu in self.gpus.get(worker["id"], [])]
        return 200, {"engine_id": engine_id, "workers": workers}

    async def _talk(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["subprotocols"] == [wire.SUBPROTOCOL]
        await send({"type": "websocket.accept", "subprotocol": wire.SUBPROTOCOL})
        connection = Connection(self)
        self.connections.append(connection)
        sender = asyncio.create_task(self._relay(connection, send))
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                self._heard(connection, json.loads(message["text"]))
        sender.cancel()
        connection.ended, connection.close_code = True, message["code"]
        self.tell()

    async def _relay(self, connection: Connection, send: Any) -> None:
        while True:
            await send(await connection.outgoing.get())

    def _heard(self, connection: Connection, frame: dict[str, Any]) -> None:
        if frame["type"] == "hello" and self.welcomes:
            connection.send("welcome", engine_id="eng_1")
        results = frame["data"].get("results", []) if frame["type"] == "hello" else []
        results += [frame["data"]] if frame["type"] == "task_result" else []
        for result in results if self.acknowledges else []:
            connection.send("result_ack", task_id=result["task_id"])
        connection.frames.append({**frame, "at": time.monotonic()})
        self.tell()
