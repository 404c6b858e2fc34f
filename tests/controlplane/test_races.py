"""A thousand tasks race one drain: none is cut, none begins where the drain was acknowledged, all finish."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest
from websockets.asyncio.client import connect

from engines import wire
from tests.controlplane.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

TASKS = 1000
DRAIN_AFTER = 300  # tasks that were accepted
WORKERS = 8  # of each engine
CALLERS = 6
SECONDS = 300.0  # for all of it, on a busy machine


class Player:
    """An engine whose tasks take 20 to 80 ms each. It obeys a drain, and remembers the order of what it heard."""

    def __init__(self, server, name):
        self.id = server.register(name, cpus=WORKERS)
        self._url = f"ws://127.0.0.1:{server.port}/engines/{self.id}/ws"
        self._headers = {"Authorization": f"Bearer {server.key}"}
        self.heard = []
        self.given = []
        self.acknowledged = set()
        self.running = set()
        self.ran_at_drain = 0
        self.left = asyncio.Event()
        self._may_end = asyncio.Event()
        self._may_end.set()
        self._jobs = set()

    async def hold_what_runs(self):
        """Once something runs, have it run until the drain is heard."""
        self._may_end.clear()
        while not self.running:
            await asyncio.sleep(0.005)

    async def play(self, ready):
        options = {"subprotocols": [wire.SUBPROTOCOL], "compression": None, "proxy": None}
        async with connect(self._url, additional_headers=self._headers, **options) as socket:
            await say(socket, "hello", boot_id="boot-1", mode="running", drain_epoch=0, running=[], results=[])
            async for message in socket:
                frame = json.loads(message)
                self.heard.append(frame["type"])
                await self._obey(socket, frame["type"], frame["data"])
                ready.set()

    async def _obey(self, socket, kind, data):
        if kind == "task":
            self._jobs.add(asyncio.create_task(self._run(socket, data["task_id"])))
        elif kind == "result_ack":
            self.acknowledged.add(data["task_id"])
        elif kind == "drain":
            self.ran_at_drain = len(self.running)
            self._may_end.set()
            self._jobs.add(asyncio.create_task(self._report(socket, data["epoch"], set(self._jobs))))
        elif kind == "shutdown":
            self.left.set()

    async def _run(self, socket, task_id):
        self.given.append(task_id)
        self.running.add(task_id)
        await say(socket, "task_accepted", task_id=task_id)
        await asyncio.sleep(0.02 + 0.01 * (len(self.given) % 7))
        await self._may_end.wait()
        self.running.discard(task_id)
        await say(socket, "task_result", task_id=task_id, status="completed", output=self.id, error="")

    async def _report(self, socket, epoch, jobs):
        """Everything it was given is with the control plane before this: one line keeps its order."""
        await asyncio.gather(*jobs)
        await say(socket, "drained", epoch=epoch)


async def say(socket, kind, **data):
    await socket.send(json.dumps({"type": kind, "data": data}))


async def race(server):
    """Return the tasks, the engine that was drained, the other one, and when the drain was acknowledged."""
    drained, other = Player(server, "racer-a"), Player(server, "racer-b")
    playing = []
    for player in (drained, other):
        ready = asyncio.Event()
        playing.append(asyncio.create_task(player.play(ready)))
        await asyncio.wait_for(ready.wait(), 20)
    headers = {"Authorization": f"Bearer {server.key}", "X-API-Version": "2"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=60) as http:
        tasks, enough, room = [], asyncio.Event(), asyncio.Semaphore(CALLERS)

        async def ask():
            async with room:
                answer = await http.post("/run", json={"app": "sleep"})
            tasks.append(answer.raise_for_status().json()["id"])
            if len(tasks) == DRAIN_AFTER:
                enough.set()

        async def drain():
            await enough.wait()
            await drained.hold_what_runs()
            (await http.post(f"/engines/{drained.id}/drain")).raise_for_status()
            return datetime.now(UTC)

        acknowledged_at, *_ = await asyncio.gather(drain(), *(ask() for _ in range(TASKS)))
        await asyncio.wait_for(drained.left.wait(), 60)
        while len(drained.acknowledged | other.acknowledged) < TASKS:
            await asyncio.sleep(0.1)
    for play in playing:
        play.cancel()
    await asyncio.gather(*playing, return_exceptions=True)
    return tasks, drained, other, acknowledged_at


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("api"), team="racers", API_RATE_RUN="100000/minute")
    server.start()

    async def bounded():
        async with asyncio.timeout(SECONDS):
            return await race(server)

    try:
        yield server, *asyncio.run(bounded())
    finally:
        server.close()


@pytest.fixture(scope="module")
def ended(raced):
    """Every task with its history, by id."""
    server, tasks = raced[:2]
    return {task: server.task(task) for task in tasks}


def dispatched(task):
    return [event for event in task["events"] if event["kind"] == "dispatched"]


def test_every_task_finished_and_was_given_once(raced, ended):
    assert len(ended) == TASKS
    assert {task["status"] for task in ended.values()} == {10}
    assert {len(dispatched(task)) for task in ended.values()} == {1}


def test_both_engines_had_some_of_them_and_none_had_the_same(raced):
    _, tasks, drained, other, _ = raced
    assert drained.given
    assert other.given
    assert sorted(drained.given + other.given) == sorted(tasks)


def test_no_task_was_cut(raced, ended):
    _, _, drained, other, _ = raced
    assert {ended[task]["output"] for task in drained.given} == {drained.id}
    assert {ended[task]["output"] for task in other.given} == {other.id}


def test_tasks_ran_when_the_drain_came(raced):
    assert raced[2].ran_at_drain > 0


def test_nothing_was_given_after_the_order(raced):
    drained = raced[2]
    assert "task" not in drained.heard[drained.heard.index("drain") :]
    assert drained.heard.count("drain") == 1


def test_nothing_was_assigned_there_once_the_drain_was_acknowledged(raced, ended):
    _, _, drained, _, acknowledged_at = raced
    times = [dispatched(ended[task])[0]["at"] for task in drained.given]
    assert max(datetime.fromisoformat(at) for at in times) <= acknowledged_at


def test_the_drained_engine_is_stopped(raced):
    server, _, drained, _, _ = raced
    assert server.engine(drained.id)["status"] == "stopped"
