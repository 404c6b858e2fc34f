"""A local cloud whose host goes on step by step, at a time of the test's choosing, with real processes."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from engines.controlplane.providers.base import Launch, Machine, Order
from engines.controlplane.providers.local import LocalCloud
from engines.controlplane.providers.local_folder import now
from engines.controlplane.providers.local_host import Host

KEY = "inf_the-engine's-own-key"
ENGINE = (sys.executable, "-S", str(Path(__file__).parent / "engine.py"))
PATIENCE = 15.0  # seconds that anything may take
BOOT_SECONDS = 30.0


class World:
    """`folder` with a cloud; `later` is how far (seconds) the host's clock is ahead."""

    def __init__(self, folder: Path, command: Sequence[str] = ENGINE, url: str = "http://127.0.0.1:1") -> None:
        self.folder, self.url, self.later = folder, url, 0.0
        self.cloud = LocalCloud(folder, command, boot_seconds=BOOT_SECONDS)
        self.host = self.new_host()

    def new_host(self) -> Host:
        return Host(self.folder, grace=0.3, clock=self.clock)

    def clock(self) -> datetime:
        return now() + timedelta(seconds=self.later)

    def order(self, name: str = "engine-eng_1", engine: str = "box", kind: str = "cpu-1", **more: Any) -> Order:
        return Order(name, "local", "here", kind, Launch("eng_1", engine, self.url, KEY), **more)

    def active(self, engine: str = "box", **more: Any) -> str:
        """Order a machine, let it boot, and wait for its engine."""
        made = self.cloud.create(self.order(engine=engine, **more))
        self.later += BOOT_SECONDS
        self.until(lambda: self.notes(made, "ready"), "the engine's start")
        return made

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Let the host work until something holds, and return it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self.host.step()
            time.sleep(0.005)
        return found

    def steps(self, count: int = 30) -> None:
        for _ in range(count):
            self.host.step()

    def gone(self, machine_id: str) -> Any:
        return self.until(lambda: self.cloud.info(machine_id) is None, "the machine's end")

    def machine(self, machine_id: str) -> Machine:
        found = self.cloud.info(machine_id)
        assert found is not None
        return found

    def path(self, machine_id: str) -> Path:
        return self.folder / "machines" / machine_id

    def seen(self, machine_id: str) -> Any:
        return json.loads((self.path(machine_id) / "seen.json").read_text())

    def notes(self, machine_id: str, what: str) -> list[dict[str, Any]]:
        """What the machine's engines have written about themselves, one after the other."""
        try:
            lines = (self.path(machine_id) / "state" / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [note for note in map(json.loads, lines) if note["what"] == what]

    def pids(self, machine_id: str) -> list[int]:
        return [note["pid"] for note in self.notes(machine_id, "ready")]

    def fault(self, **faults: Any) -> None:
        (self.folder / "faults.json").write_text(json.dumps(faults))

    def tombstone(self, machine_id: str) -> Any:
        return json.loads((self.folder / "gone" / f"{machine_id}.json").read_text())

    def clean(self) -> None:
        self.host = self.new_host()
        self.host.end()


class HostProcess:
    """The host as it is started for good."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "engines.controlplane.providers.local_host", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--tick", "0.02", "--grace", "0.3", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )

    def ends(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Send the signal, wait for the end; return the exit code and what it said."""
        if number is not None:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said

    def clean(self) -> None:
        if self.process.poll() is None:
            self.ends(signal.SIGKILL)
