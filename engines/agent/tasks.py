"""One task as a process: fed, listened to, ended."""

import asyncio
import contextlib
import json
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from engines import wire
from engines.agent.output import MOST_KEPT, Output
from engines.agent.say import say

UPDATE_SECONDS = 1.0  # between two updates of one task: each is a write in the API's database
SAY_SECONDS = 10.0  # between two lines about its progress
CANCEL_SECONDS = 5.0  # from SIGTERM to SIGKILL
LARGEST_OUTPUT = wire.FRAME_LIMIT * 3 // 4  # bytes; the frame around it needs some room too
SHUT_DOWN = "the engine was shut down on its host while this task ran"

Ending = Literal["", "cancelled", "shut down"]


class Task:
    """A task on a worker. `changed` is called whenever there is something new to send."""

    def __init__(self, assign: wire.Assign, changed: Callable[[], None]) -> None:
        self.assign = assign
        self.id = assign["task_id"]
        self.worker_id = assign["worker_id"]
        self.progress: float = 0.0
        self.started_at = _now()
        self._changed = changed
        self._began = time.monotonic()
        self._process: Process | None = None
        self._ending: Ending = ""
        self._message = ""
        self._output = Output()
        self._last_line = ""
        self._news = False  # progress or message since the last update
        self._update_at = 0.0
        self._say_at = self._began + SAY_SECONDS
        self._answer: dict[str, Any] = {}  # the app's last word: result or error

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    async def run(self, process: Process) -> wire.Result:
        """Run it to its end and return the result, whatever happens to the process."""
        self._process = process
        if self._ending:
            self._signal(signal.SIGTERM)
        await asyncio.gather(self._feed(process), self._listen(process), self._collect(process), process.wait())
        return self._result(process.returncode or 0)

    def end(self, why: Ending, patience: float = CANCEL_SECONDS) -> None:
        """Ask it to end, and kill it `patience` seconds later. Does not wait. A second call changes nothing."""
        if self._ending:
            return
        self._ending = why
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(patience, self.kill)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def failed(self, error: str) -> wire.Result:
        """The result when there is no process to ask."""
        return self._finished("failed", None, error)

    def update_due(self) -> float | None:
        """The monotonic time at which the next update may be sent, None if there is nothing new."""
        return self._update_at if self._news or self._output else None

    def take_update(self) -> wire.TaskUpdate:
        """What is new since the last call, one bounded chunk of output at most."""
        self._update_at = time.monotonic() + UPDATE_SECONDS
        return self._take(self._output.take())

    def last_update(self) -> wire.TaskUpdate | None:
        """All that was not sent before the task ended."""
        return self._take(self._output.take(2 * MOST_KEPT)) if self.update_due() is not None else None

    def _take(self, log: str) -> wire.TaskUpdate:
        self._news = False
        update = wire.TaskUpdate(task_id=self.id, progress=self.progress, message=self._message)
        if log:
            update["log"] = log
        return update

    async def _feed(self, process: Process) -> None:
        assert process.stdin is not None
        # A process that ended before it read its input has said why on the other pipes.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(self.assign["input"]).encode())
            await process.stdin.drain()
        process.stdin.close()

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                self._answer = {"error": f"the app wrote a line of more than {wire.FRAME_LIMIT} bytes"}
                self.kill()
                continue
            if not line:
                return
            self._heard(line.decode(errors="replace").rstrip())

    async def _collect(self, process: Process) -> None:
        assert process.stderr is not None
        while chunk := await _line(process.stderr):
            self._log(chunk.decode(errors="replace").rstrip())

    def _heard(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self._log(line)
        elif "log" in said:
            self._log(str(said["log"]))
        elif "progress" in said:
            self._moved(said)
        elif "ready" not in said:
            self._answer = said

    def _moved(self, said: dict[str, Any]) -> None:
        if isinstance(said["progress"], int | float):
            self.progress = min(max(float(said["progress"]), 0.0), 1.0)
        self._message = str(said.get("message", ""))[:500]
        self._news = True
        if time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + SAY_SECONDS
            say(f"task {self.id}: {self.progress:.0%} {self._message}")
        self._changed()

    def _log(self, line: str) -> None:
        self._last_line = line[:500]
        self._output.add(line)
        self._changed()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole group, if the process still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _result(self, code: int) -> wire.Result:
        if code == 0 and "result" in self._answer:
            return self._completed(self._answer["result"])
        if self._ending == "cancelled":
            return self._finished("cancelled", None, "cancelled while it ran")
        if self._ending == "shut down":
            return self._finished("failed", None, SHUT_DOWN)
        return self._finished("failed", None, str(self._answer.get("error") or _ended(code, self._last_line)))

    def _completed(self, output: Any) -> wire.Result:
        try:
            size = len(json.dumps(output, allow_nan=False))
        except ValueError:
            return self._finished("failed", None, "the app's output is not JSON: it holds NaN or infinity")
        if size > LARGEST_OUTPUT:
            return self._finished("failed", None, f"the output has {size} bytes; {LARGEST_OUTPUT} fit")
        return self._finished("completed", output, "")

    def _finished(self, status: Literal["completed", "failed", "cancelled"], output: Any, error: str) -> wire.Result:
        return {
            "task_id": self.id,
            "status": status,
            "output": output,
            "error": error,
            "started_at": self.started_at,
            "finished_at": _now(),
        }


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or a note in place of one that is too long; b"" at the end."""
    try:
        return await stream.readline()
    except ValueError:
        return b"[a line was too long to keep]\n"


def _ended(code: int, last_line: str) -> str:
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    said = f"; its last words: {last_line}" if last_line else ""
    return f"the app ended with {how} before it gave a result{said}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
