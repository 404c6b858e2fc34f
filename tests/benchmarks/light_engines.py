"""Engines without workers' processes: sockets that say what an engine says and report every task's result at once."""

import asyncio
import contextlib
import json
import re
import time

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from engines import wire
from engines.agent import host

AT_ONCE = 16  # connections being opened, so that a start is no flood


class Lines:
    """Open connections, one coroutine each, that all send a heartbeat every 15 s, evenly spread."""

    def __init__(self):
        self.sockets = []
        self._running = []

    async def open(self, urls, headers, talk):
        """Connect to every url, as the agent does, and run `talk(socket, number)` on each."""
        doors = asyncio.Semaphore(AT_ONCE)

        async def enter(number, url):
            async with doors:
                socket = await connect(
                    url,
                    additional_headers=headers,
                    subprotocols=[wire.SUBPROTOCOL],
                    compression=None,
                    proxy=None,
                    open_timeout=60,
                    ping_interval=wire.HEARTBEAT_SECONDS,
                    ping_timeout=wire.DEAD_AFTER_SECONDS - wire.HEARTBEAT_SECONDS,
                    max_size=wire.FRAME_LIMIT,
                )
                ready = asyncio.Event()
                self._running.append(asyncio.create_task(talk(socket, number, ready)))
                async with asyncio.timeout(60):
                    await ready.wait()
                return socket

        self.sockets = await asyncio.gather(*(enter(number, url) for number, url in enumerate(urls)))
        self._running.append(asyncio.create_task(self._beat()))

    async def _beat(self):
        beat = json.dumps({"type": "heartbeat", "data": {"mode": "running", "running": []}})
        begun, count = time.monotonic(), 0
        while True:
            socket = self.sockets[count % len(self.sockets)]
            with contextlib.suppress(ConnectionClosed):
                await socket.send(beat)
            count += 1
            await asyncio.sleep(begun + count * wire.HEARTBEAT_SECONDS / len(self.sockets) - time.monotonic())

    def still_open(self):
        return sum(socket.close_code is None for socket in self.sockets)

    async def close(self):
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for socket in self.sockets:
            socket.transport.abort()


class Fleet(Lines):
    """Registered engines of one worker each, and the way to see when a task reaches one."""

    def __init__(self, url, key):
        super().__init__()
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.AsyncClient(
            base_url=url, headers={**self._headers, "X-API-Version": "2"}, trust_env=False, timeout=30
        )
        self.names = []
        self._ids = []
        self._idle = []  # connections for `POST /run`
        self._arrived = {}

    async def register(self, size):
        info = host.system_info()
        doors = asyncio.Semaphore(4)

        async def one(number):
            state = {"id": "", "name": self.names[number], "boot_id": "boot"}
            body = {"local_engine_state": state, "system_info": info, "worker_config": {"cpu": {"count": 1}}}
            async with doors:
                answer = await self.http.post("/engines/register", json=body)
            return answer.raise_for_status().json()["engine_id"]

        self.names = [f"engine-{number:04}" for number in range(size)]
        self._ids = await asyncio.gather(*map(one, range(size)))

    async def connect(self):
        base = self._url.replace("http", "ws", 1)
        await self.open([f"{base}/engines/{engine}/ws" for engine in self._ids], self._headers, self._talk)

    async def _talk(self, socket, number, ready):
        hello = {"boot_id": "boot", "version": "1", "mode": "running", "drain_epoch": 0, "running": [], "results": []}
        await socket.send(json.dumps({"type": "hello", "data": hello}))
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                at = time.perf_counter()
                said = json.loads(message)
                if said["type"] == "welcome":
                    ready.set()
                elif said["type"] == "task":
                    await self._work(socket, said["data"]["task_id"], at)

    async def _work(self, socket, task, at):
        self._when(task).set_result(at)
        await socket.send(json.dumps({"type": "task_accepted", "data": {"task_id": task}}))
        done = {"task_id": task, "status": "completed", "output": None, "error": ""}
        await socket.send(json.dumps({"type": "task_result", "data": done}))

    def _when(self, task):
        return self._arrived.setdefault(task, asyncio.get_running_loop().create_future())

    async def dispatch(self, number):
        """Run a task; return the seconds from asking for it to its arrival at an engine."""
        # Every other one names its worker, as the portal does; the rest take any.
        aim = {"workers": [f"{self.names[number * 7 % len(self.names)]}-cpu-0"]} if number % 2 else {}
        body = json.dumps({"app": "sleep", "input": {"seconds": 0}, **aim})
        asked = time.perf_counter()
        answer = await self._run(body)
        async with asyncio.timeout(30):
            arrived = await self._when(answer["id"])
        return arrived - asked

    async def _run(self, body):
        """Post to /run over a connection that is kept, with as little on our side as an echo has: httpx takes 1 ms."""
        url = self.http.base_url
        self._idle = [line for line in self._idle if not line[0].at_eof()]  # the server closes them after 5 s
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(url.host, url.port)
        lines = ["POST /run HTTP/1.1", f"Host: {url.netloc.decode()}", "X-API-Version: 2"]
        lines += [f"Authorization: {self._headers['Authorization']}", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", "", body]
        writer.write("\r\n".join(lines).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        answer = await reader.readexactly(int(re.search(r"content-length: (\d+)", head)[1]))
        assert head.startswith("http/1.1 200"), answer
        self._idle.append((reader, writer))
        return json.loads(answer)

    async def close(self):
        await super().close()
        for _, writer in self._idle:
            writer.close()
        await self.http.aclose()


class Echoes(Lines):
    """Connections to the echo server."""

    def __init__(self, url):
        super().__init__()
        self._url = url
        self._back = {}

    async def connect(self, size):
        await self.open([self._url] * size, {}, self._talk)

    async def _talk(self, socket, number, ready):
        ready.set()
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                at = time.perf_counter()
                waiting = self._back.pop(json.loads(message)["data"].get("task_id"), None)
                if waiting is not None:
                    waiting.set_result(at)

    async def round_trip(self, number):
        """Send as much as a task's frame is, and return the seconds until it is back."""
        data = {"task_id": f"task_{number:022}", "worker_id": "w" * 26, "app": "sleep", "input": {"seconds": 0}}
        back = self._back[data["task_id"]] = asyncio.get_running_loop().create_future()
        sent = time.perf_counter()
        await self.sockets[number * 7 % len(self.sockets)].send(json.dumps({"type": "task", "data": data}))
        async with asyncio.timeout(30):
            return await back - sent
