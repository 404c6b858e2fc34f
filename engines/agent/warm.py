"""Processes that have their app loaded and wait for input, so that the next task of that app starts at once."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Collection

from engines import wire
from engines.agent import child
from engines.agent.apps import READY, WAIT
from engines.agent.version import VERSION


class Warm:
    """At most one waiting process per worker. `changed` is called when `shown` would say something else."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._waiting: dict[str, Waiting] = {}  # by worker
        self._ends: set[asyncio.Task[None]] = set()

    async def process(self, app: str, worker: wire.Worker) -> Process:
        """A process of `app` for a task on `worker`: the one that waits there, or a new one. Raises OSError.

        One of another app that waits there is ended.
        """
        if waiting := self._waiting.pop(worker["id"], None):
            self._changed()
            if waiting.app == app and waiting.environment == child.environment(worker):
                process = await waiting.taken()
                if process is not None and process.returncode is None:
                    return process
            self._end(waiting)
        return await child.start(app, worker)

    def keep(self, app: str, worker: wire.Worker) -> None:
        """Have a process of `app` wait on `worker` from now on. Does not wait for it."""
        self.end([worker["id"]])
        self._waiting[worker["id"]] = Waiting(app, worker, self._changed)

    def shown(self) -> dict[str, list[str]]:
        """The apps that are loaded and wait, by worker, as heartbeats name them."""
        return {
            worker_id: [f"{waiting.app}:{VERSION}@0"] for worker_id, waiting in self._waiting.items() if waiting.ready
        }

    def end(self, workers: Collection[str] | None = None) -> None:
        """End what waits, everywhere or on `workers`. Does not wait."""
        for worker_id in [*self._waiting] if workers is None else workers:
            if waiting := self._waiting.pop(worker_id, None):
                self._end(waiting)
                self._changed()

    def end_but(self, workers: Collection[str]) -> None:
        """End what waits on workers that are no longer there."""
        self.end([worker_id for worker_id in self._waiting if worker_id not in workers])

    async def ended(self) -> None:
        """Return when every process that was ended is gone."""
        if self._ends:
            await asyncio.wait(self._ends)

    def _end(self, waiting: "Waiting") -> None:
        job = asyncio.create_task(waiting.end())
        self._ends.add(job)
        job.add_done_callback(self._ends.discard)


class Waiting:
    """A process on its way to be loaded, and then waiting."""

    def __init__(self, app: str, worker: wire.Worker, changed: Callable[[], None]) -> None:
        self.app = app
        self.environment = child.environment(worker)
        self.ready = False
        self._changed = changed
        self._start = asyncio.create_task(child.start(app, worker, WAIT))
        self._watch = asyncio.create_task(self._follow())

    async def taken(self) -> Process | None:
        """Let go of the process, loaded or not yet; None if there is none. Its streams are the caller's from here."""
        self._watch.cancel()
        await asyncio.wait([self._start, self._watch])
        return None if self._start.exception() else self._start.result()

    async def end(self) -> None:
        if (process := await self.taken()) is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    async def _follow(self) -> None:
        # Whatever is wrong here, the next task starts cold then and says what it is.
        with contextlib.suppress(OSError, ValueError):
            process = await asyncio.shield(self._start)
            assert process.stdout is not None
            while not self.ready and (line := await process.stdout.readline()):
                self.ready = line.strip() == READY
            self._changed()
            await process.wait()
            self.ready = False
            self._changed()
