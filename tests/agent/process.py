"""The engine as a person starts it: a process, its output, its exit code."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.agent.scripted import KEY, PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SOURCE_TREE = (sys.executable, "-m", "engines.agent")


class AgentProcess:
    """`python -m engines.agent serve`, its stdout and stderr read line by line. `program` runs another build."""

    def __init__(
        self, url: str, state_dir: Path, *flags: str, key: str = KEY, program: Sequence[str] = SOURCE_TREE
    ) -> None:
        command = [*program, "serve", "--api-url", url, "--name", "host-1"]
        self.state_dir = state_dir
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [*command, "--state-dir", str(state_dir), *flags],
            cwd=ROOT if program == SOURCE_TREE else state_dir.parent,
            env={**os.environ, "INFERENCE_API_KEY": key},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    def says(self, words: str) -> str:
        """Wait for a line with `words` and return it."""
        with self._changed:
            if not self._changed.wait_for(lambda: words in self.output, PATIENCE):
                raise AssertionError(f"the engine never said {words!r}; it said\n{self.output}")
        return next(line for line in self._lines if words in line)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exits(self) -> int:
        """Wait for its end and return the exit code."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    @property
    def command_line(self) -> bytes:
        return Path(f"/proc/{self._process.pid}/cmdline").read_bytes()

    def children(self, app: str = "") -> list[int]:
        """The processes of its tasks, and those that wait for one; those of one app if it is given."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in path.read_text().split() if alive(int(pid)) and app in _words(int(pid))]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be reaped does not."""
    try:
        state: Any = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
