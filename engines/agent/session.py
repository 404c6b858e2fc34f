"""What one connection still has to send, in order. Made new with each connect."""

import asyncio
import json
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from engines import wire

if TYPE_CHECKING:
    from engines.agent.engine import Engine

HELLO_RESULTS = wire.FRAME_LIMIT // 2  # bytes of results that go in the hello; others follow one by one
CALM_SECONDS = 0.25


class Session:
    """The outgoing side of a connection. It pulls from the engine, so a slow line never holds a task up.

    `news` is set when there may be something to send. Before `welcomed` only heartbeats go out.
    """

    def __init__(self, engine: "Engine") -> None:
        self.news = asyncio.Event()
        self.welcomed = False
        self.heartbeat_at = time.monotonic()
        self._beat_at = -math.inf  # the last one
        self._engine = engine
        self._replies: deque[wire.Frame] = deque()
        self._drain_asked = False  # on this connection, and not reported yet
        in_hello = self._fitting()
        self._unsent = deque(task_id for task_id in engine.held if task_id not in in_hello)
        results = [engine.held[task_id]["result"] for task_id in in_hello]
        self.hello = _frame("hello", engine.hello(results, self.running()))

    def running(self) -> list[wire.RunningTask]:
        """The tasks this engine still answers for: running, or ended with a result that is not sent yet."""
        tasks = {task.id: task.worker_id for task in self._engine.running.values()}
        tasks |= {task_id: self._engine.held[task_id]["worker_id"] for task_id in self._unsent}
        return [{"task_id": task_id, "worker_id": worker_id} for task_id, worker_id in tasks.items()]

    def reply(self, kind: str, data: Any) -> None:
        self._replies.append(_frame(kind, data))
        self.news.set()

    def send_result(self, task_id: str) -> None:
        if task_id not in self._unsent:
            self._unsent.append(task_id)
        self.news.set()

    def welcome(self) -> None:
        self.welcomed = True
        self.beat()

    def beat(self) -> None:
        """Send a heartbeat at once: it would say something new."""
        self.heartbeat_at = time.monotonic()
        self.news.set()

    def beat_soon(self) -> None:
        """The same for what may change often: never quicker than CALM_SECONDS."""
        self.heartbeat_at = min(self.heartbeat_at, max(time.monotonic(), self._beat_at + CALM_SECONDS))
        self.news.set()

    def drain(self) -> None:
        """A drain was asked on this connection, so it is answered on this connection."""
        self._drain_asked = True
        self.news.set()

    def next_frame(self) -> wire.Frame | None:
        """Take the most urgent frame. What a task says comes in order: accepted, updates, result."""
        if time.monotonic() >= self.heartbeat_at:
            return self._heartbeat()
        if not self.welcomed:
            return None
        if self._replies:
            return self._replies.popleft()
        return self._result() or self._update() or self._drained()

    def seconds_until_due(self) -> float:
        """When to look again even without news."""
        due = [self.heartbeat_at]
        if self.welcomed:
            due += [at for task in self._engine.running.values() if (at := task.update_due()) is not None]
        return max(0.0, min(due) - time.monotonic())

    def _heartbeat(self) -> wire.Frame:
        self._beat_at = time.monotonic()
        self.heartbeat_at = self._beat_at + self._engine.heartbeat_seconds
        beat = wire.Heartbeat(mode=self._engine.mode, running=self.running(), warm=self._engine.warm.shown())
        return _frame("heartbeat", beat)

    def _result(self) -> wire.Frame | None:
        while self._unsent:
            task_id = self._unsent[0]
            if (update := self._engine.last_updates.pop(task_id, None)) is not None:
                return _frame("task_update", update)
            self._unsent.popleft()
            if held := self._engine.held.get(task_id):
                return _frame("task_result", held["result"])
        return None

    def _update(self) -> wire.Frame | None:
        now = time.monotonic()
        for task in self._engine.running.values():
            if (at := task.update_due()) is not None and at <= now:
                return _frame("task_update", task.take_update())
        return None

    def _drained(self) -> wire.Frame | None:
        if not self._drain_asked or not self._engine.idle:
            return None
        self._drain_asked = False
        self._engine.drained()
        return _frame("drained", wire.Drained(epoch=self._engine.drain_epoch))

    def _fitting(self) -> set[str]:
        """The held results that go in the hello: complete ones, as many as fit."""
        fitting, size = set(), 0
        for task_id, held in self._engine.held.items():
            size += len(json.dumps(held["result"]))
            if size <= HELLO_RESULTS and task_id not in self._engine.last_updates:
                fitting.add(task_id)
        return fitting


def _frame(kind: str, data: Any) -> wire.Frame:
    return {"type": kind, "data": data}
