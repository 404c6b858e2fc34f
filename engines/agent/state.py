"""What an engine keeps on disk: its id, and the results nobody has acknowledged yet."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

from engines import wire
from engines.agent.say import say


class Locked(Exception):
    """Another process holds the state directory."""


class Held(TypedDict):
    """A result as it lies on disk, with the worker that made it."""

    worker_id: str
    result: wire.Result


class StateDir:
    """The directory of one engine, held by one process until that process ends.

    Raises Locked if another process has it, OSError if it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results = path / "results"
        self._results.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Never closed: the lock goes with the process, however that ends.
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 20).decode(errors="replace") or "unknown"
            os.close(lock)
            raise Locked(f"{path} is in use by another engine (process {holder})") from error
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())

    def engine_id(self) -> str:
        """The id the API gave at the last registration, "" before the first."""
        try:
            saved = json.loads((self.path / "engine.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        found = saved.get("id") if isinstance(saved, dict) else ""
        return found if isinstance(found, str) else ""

    def save_engine_id(self, engine_id: str) -> None:
        _write(self.path / "engine.json", {"id": engine_id})

    def keep(self, held: Held) -> None:
        """Put a result on disk for good: when this returns, it outlives the process and the host's power."""
        _write(self._file(held["result"]["task_id"]), held)

    def drop(self, task_id: str) -> None:
        self._file(task_id).unlink(missing_ok=True)

    def held(self) -> dict[str, Held]:
        """Every result on disk, by task. An unreadable file is set aside and said, never deleted."""
        found: dict[str, Held] = {}
        for file in sorted(self._results.glob("*.json")):
            try:
                held: Held = json.loads(file.read_text(encoding="utf-8"))
                found[held["result"]["task_id"]] = held
            except (OSError, ValueError, KeyError, TypeError):
                file.rename(file.with_suffix(".unreadable"))
                say(f"a stored result cannot be read and is set aside as {file.stem}.unreadable")
        return found

    def _file(self, task_id: str) -> Path:
        return self._results / f"{quote(task_id, safe='')}.json"


def _write(path: Path, content: Any) -> None:
    """Replace `path` in one step, so that a crash leaves the old file or the new one, never half."""
    new = path.with_suffix(".new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
