"""The folder in which the local cloud's provider and its host meet.

lock                      held for an instant by who decides about a machine
host.lock                 held by the host while it runs
faults.json               failures on demand, see `Folder.fault`
machines/ID/machine.json  what shall be: written by the provider alone
machines/ID/seen.json     what is: written by the host alone
machines/ID/              key, config.json, state/, engine.log, exit: what the engine has and leaves
gone/ID.json              what was, once the machine is deleted
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any, Self

from engines.controlplane.providers.base import NotNow
from engines.controlplane.providers.local_process import Process

LOCK_SECONDS = 5.0  # the longest that anyone waits for the lock
CENT_PARTS = Decimal("0.0001")  # dollars: costs are counted so finely


@dataclass(frozen=True)
class Wanted:
    """What shall be. Times are ISO 8601 with their zone, the limit is in dollars, the price in cents an hour."""

    id: str
    name: str
    instance_type: str
    hourly_price: int
    boot_seconds: float
    engine_id: str
    engine_name: str
    api_url: str
    command: list[str]
    created_at: str
    delete_at: str | None = None
    spend_limit: str | None = None
    restarts: int = 0  # asked for so far
    deleting: bool = False
    image: str = ""  # the file that `{engine}` in the command is a copy of

    def age(self, now: datetime) -> float:
        return (now - datetime.fromisoformat(self.created_at)).total_seconds()


@dataclass(frozen=True)
class Seen:
    """What is. `exit` is the engine's last exit code while it does not run, -1 for one that nobody could note."""

    state: str = "creating"
    error: str = ""
    active_at: str | None = None
    engine: Process | None = None
    exit: int | None = None
    restarts: int = 0  # done so far
    deleting: str = ""  # why, once the host has decided so

    def cost(self, hourly_price: int, now: datetime) -> Decimal:
        """Dollars since it became active."""
        if self.active_at is None:
            return Decimal(0)
        seconds = max((now - datetime.fromisoformat(self.active_at)).total_seconds(), 0)
        return (Decimal(seconds) / 3600 * hourly_price / 100).quantize(CENT_PARTS, ROUND_DOWN)


class Place:
    """One machine's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.state_dir = path / "state"
        self.exit_file = path / "exit"
        self.log = path / "engine.log"

    def wanted(self) -> Wanted | None:
        """None once the machine is gone."""
        content = read(self.path / "machine.json")
        return None if content is None else Wanted(**_known(Wanted, content))

    def want(self, wanted: Wanted) -> None:
        write(self.path / "machine.json", asdict(wanted))

    def seen(self) -> Seen:
        content = _known(Seen, read(self.path / "seen.json") or {})
        engine = content.pop("engine", None)
        return Seen(**content, engine=Process(**engine) if engine else None)

    def see(self, seen: Seen) -> None:
        write(self.path / "seen.json", asdict(seen))

    def key(self) -> str:
        return (self.path / "key").read_text(encoding="ascii")

    def engine(self, image: str) -> Path:
        """The machine's own engine, installed from `image` if it is not there yet. Raises OSError."""
        own = self.path / "engine"
        if image and not own.exists():
            fresh = own.with_suffix(".new")
            shutil.copyfile(image, fresh)
            fresh.chmod(0o700)
            fresh.replace(own)
        return own

    def exit_code(self) -> int:
        """What the engine that ran last ended with, -1 if it did not live to tell."""
        try:
            return int(self.exit_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return -1


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._machines, self._gone = self.path / "machines", self.path / "gone"
        for folder in (self.path, self._machines, self._gone):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def places(self) -> list[Place]:
        """Every machine that is there, whatever its state."""
        return [Place(path) for path in sorted(self._machines.iterdir()) if not path.name.startswith(".")]

    def place(self, machine_id: str) -> Place | None:
        found = machine_id.isalnum() and (self._machines / machine_id).is_dir() and not self.is_gone(machine_id)
        return Place(self._machines / machine_id) if found else None

    def is_gone(self, machine_id: str) -> bool:
        return (self._gone / f"{machine_id}.json").exists()

    def add(self, wanted: Wanted, key: str, config: dict[str, Any]) -> None:
        """Put a machine there in one step: the host sees all of it or nothing. Raises OSError, then there is none."""
        new = self._machines / f".{wanted.id}"
        new.mkdir(mode=0o700)
        try:
            write(new / "config.json", config)
            write(new / "machine.json", asdict(wanted))
            _write_text(new / "key", key)
            new.rename(self._machines / wanted.id)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise
        _sync(self._machines)

    def bury(self, place: Place, why: str, cost: Decimal, now: datetime) -> None:
        """Remove all that the machine was, but for a line about it. Done twice, it is as done once."""
        with self.lock():  # nobody may be told that a change to it was accepted
            wanted = place.wanted()
            if wanted is not None and not self.is_gone(place.id):
                about = {"id": place.id, "name": wanted.name, "engine_id": wanted.engine_id, "why": why}
                write(self._gone / f"{place.id}.json", {**about, "cost": str(cost), "deleted_at": now.isoformat()})
            shutil.rmtree(place.path, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for a decision. Raises Refused if somebody else does for long."""
        with open(self.path / "lock", "w", encoding="utf-8") as file:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise NotNow("The local cloud is busy; nothing was done.") from None
                    time.sleep(0.01)
            yield  # closing the file gives the lock back

    def fault(self, operation: str) -> str:
        """Return how this operation shall fail now, "" for not at all.

        faults.json maps operations to "refuse", "unclear" (nothing is done), "unclear_done" (it is), for `boot`
        "error"; or to {"times": 2, "how": …}, which is counted down.
        """
        if not (self.path / "faults.json").exists():
            return ""
        with self.lock():
            faults = read(self.path / "faults.json") or {}
            fault = faults.get(operation, "")
            if not isinstance(fault, dict):
                return str(fault)
            left = fault.get("times", 0)
            if left <= 0:
                return ""
            write(self.path / "faults.json", {**faults, operation: {**fault, "times": left - 1}})
            return str(fault.get("how", ""))


class HostLock:
    """Held by one host for as long as it lives. Raises BlockingIOError if another has it."""

    def __init__(self, folder: Folder) -> None:
        self._file = open(folder.path / "host.lock", "a+", encoding="utf-8")  # noqa: SIM115 (as long as the process)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def now() -> datetime:
    return datetime.now(UTC)


def read(path: Path) -> dict[str, Any] | None:
    """None if there is no such file, or none of ours: each is written in one step, so it never is half there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write(path: Path, content: Any) -> None:
    """Replace the file in one step, for good: after a crash it is the old one or the new one."""
    _write_text(path, json.dumps(content, indent=1))


def _write_text(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _known(kind: type[Wanted | Seen], content: dict[str, Any]) -> dict[str, Any]:
    """The members that this version knows: another may have written the file."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in content.items() if name in names}
