"""The host of the local cloud: it makes what is into what shall be.

    python -m engines.controlplane.providers.local_host FOLDER [--tick 0.2] [--grace 3]

Again and again it compares each machine's two files and takes the next step. It keeps nothing in mind that matters:
killed at any point, the next one goes on, with the engines that still run. SIGTERM ends the engines and keeps the
machines; the next host starts their engines again.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from engines.controlplane.providers import local_process
from engines.controlplane.providers.base import Refused
from engines.controlplane.providers.local_folder import Folder, HostLock, Place, Seen, Wanted, now
from engines.controlplane.providers.local_process import Process

END_SECONDS = 6.0  # from the host's own end to SIGKILL for the engines that are still there
FIRST_RETRY, LAST_RETRY = 0.5, 30.0  # seconds from a crash to the next start: doubled each time
STEADY_SECONDS = 60.0  # an engine that lived so long starts anew with the retries
LOCKED = 4  # the exit code of a second host


class Keeper:
    """Takes one machine through its life, a step at a time."""

    def __init__(self, folder: Folder, place: Place, grace: float, clock: Callable[[], datetime]) -> None:
        self._folder, self._place, self._grace, self._clock = folder, place, grace, clock
        self._leaving: Process | None = None  # what the end of the host ends
        self._cut_at: float | None = None
        self._started_at = self._retry_at = 0.0
        self._retry = FIRST_RETRY

    def step(self) -> None:
        """Do what is next. Raises OSError; then it is next again."""
        wanted, seen = self._place.wanted(), self._place.seen()
        if self._folder.is_gone(self._place.id):
            self._folder.bury(self._place, "", Decimal(0), self._clock())  # the rest of an earlier attempt
        elif wanted is None:
            raise ValueError("machine.json cannot be read; the machine is left as it is")
        elif why := self._deleting(wanted, seen):
            self._delete(wanted, seen, why)
        elif seen.state == "active":
            self._keep(wanted, seen)
        elif seen.state != "error":
            self._boot(wanted, seen)

    def end(self, last: bool) -> bool:
        """Ask the engine to end, or kill it if this is the last word. Returns whether it has ended."""
        if self._leaving is None:
            wanted, seen = self._place.wanted(), self._place.seen()
            self._leaving = self._engine(seen)
            if self._leaving is None:
                if wanted and seen.engine:
                    self._ended(wanted, seen)
                return True
            # It ends because of us: the next host shall not take it for one that ended by itself.
            with contextlib.suppress(OSError):  # a full disk is no reason to leave it running
                self._place.see(replace(seen, engine=None, exit=None))
        if not self._leaving.alive():
            return True
        self._cut(self._leaving, 0.0 if last else END_SECONDS)
        return False

    def _deleting(self, wanted: Wanted, seen: Seen) -> str:
        """Why the machine is to go. Once decided, nothing takes it back."""
        if wanted.deleting or seen.deleting:
            return seen.deleting or "asked for"
        if not self._due(wanted, seen):
            return ""
        with self._folder.lock():  # an extension that was accepted a moment ago counts
            wanted = self._place.wanted() or wanted
            why = self._due(wanted, seen)
            if why:
                self._place.see(replace(seen, deleting=why))
        return why

    def _due(self, wanted: Wanted, seen: Seen) -> str:
        moment = self._clock()
        if wanted.delete_at is not None and moment >= datetime.fromisoformat(wanted.delete_at):
            return "its time was over"
        if wanted.spend_limit is not None and seen.active_at is not None:
            spent = seen.cost(wanted.hourly_price, moment)
            return "its spend limit was reached" if spent >= Decimal(wanted.spend_limit) else ""
        return ""

    def _delete(self, wanted: Wanted, seen: Seen, why: str) -> None:
        if engine := self._engine(seen):
            return self._cut(engine, self._grace)
        say(f"machine {wanted.name} is deleted: {why}")
        return self._folder.bury(self._place, why, seen.cost(wanted.hourly_price, self._clock()), self._clock())

    def _boot(self, wanted: Wanted, seen: Seen) -> None:
        booted = wanted.age(self._clock()) / wanted.boot_seconds if wanted.boot_seconds > 0 else 1
        if booted >= 1 and self._folder.fault("boot") == "error":
            say(f"machine {wanted.name} fails to boot")
            self._place.see(replace(seen, state="error", error="faults.json has the machine fail to boot"))
        elif booted >= 1:
            say(f"machine {wanted.name} is active")
            self._place.see(replace(seen, state="active", active_at=self._clock().isoformat()))
        elif booted >= 1 / 3 and seen.state == "creating":
            self._place.see(replace(seen, state="pending"))

    def _keep(self, wanted: Wanted, seen: Seen) -> None:
        engine = self._engine(seen)
        if wanted.restarts > seen.restarts:
            if engine:
                return self._cut(engine, self._grace)
            # Noted before the engine starts again, so that no later host cuts it for the same request.
            seen = replace(seen, restarts=seen.restarts + 1, engine=None, exit=None)
            say(f"machine {wanted.name} is restarted")
            self._place.see(seen)
            self._retry_at = 0.0
        elif engine:
            return None
        elif seen.engine:
            seen = self._ended(wanted, seen)
        if seen.exit == 0 or time.monotonic() < self._retry_at:
            return None
        return self._start(wanted, seen)

    def _ended(self, wanted: Wanted, seen: Seen) -> Seen:
        """Note how the engine ended by itself, and when to start it again."""
        seen = replace(seen, engine=None, exit=self._place.exit_code())
        self._place.see(seen)
        if seen.exit == 0:
            say(f"the engine of machine {wanted.name} ended by itself")
            return seen
        steady = time.monotonic() - self._started_at > STEADY_SECONDS
        self._retry = FIRST_RETRY if steady else self._retry
        say(f"the engine of machine {wanted.name} crashed ({seen.exit}); started again in {self._retry:g} s")
        self._retry_at = time.monotonic() + self._retry
        self._retry = min(2 * self._retry, LAST_RETRY)
        return seen

    def _start(self, wanted: Wanted, seen: Seen) -> None:
        flags = {
            "--api-url": wanted.api_url,
            "--name": wanted.engine_name,
            "--engine-id": wanted.engine_id,
            "--config": str(self._place.path / "config.json"),
        }
        place = self._place
        engine_file = str(place.engine(wanted.image))
        command = [word.replace("{engine}", engine_file) for word in wanted.command]
        command += ["serve", *(f"{flag}={value}" for flag, value in flags.items()), self._mark()]
        engine = local_process.start(command, key=place.key(), log=place.log, exit_file=place.exit_file)
        self._started_at = time.monotonic()
        place.see(replace(seen, engine=engine, exit=None))
        say(f"the engine of machine {wanted.name} is started, process {engine.pid}")

    def _engine(self, seen: Seen) -> Process | None:
        """Return the engine if it runs, whoever started it."""
        if seen.engine and seen.engine.alive():
            return seen.engine
        self._cut_at = None
        if seen.state != "active" or (seen.engine is None and seen.exit == 0):
            return None
        # A host may have been killed between a start and its note.
        found = local_process.find(self._mark())
        if found:
            self._place.see(replace(seen, engine=found))
        return found

    def _cut(self, engine: Process, grace: float) -> None:
        """SIGTERM the first time, SIGKILL once the grace (seconds) is over."""
        if self._cut_at is None:
            self._cut_at = time.monotonic()
            engine.signal(signal.SIGTERM)
        if time.monotonic() >= self._cut_at + grace:
            engine.signal(signal.SIGKILL)

    def _mark(self) -> str:
        """The argument that tells this machine's engine from all other processes."""
        return f"--state-dir={self._place.state_dir}"


class Host:
    """Runs every machine of the folder. `tick` and `grace` are in seconds."""

    def __init__(
        self, folder: Path, *, tick: float = 0.2, grace: float = 3.0, clock: Callable[[], datetime] = now
    ) -> None:
        self._folder = Folder(folder)
        self._tick, self._grace, self._clock = tick, grace, clock
        self._keepers: dict[str, Keeper] = {}
        self._complaints: dict[str, str] = {}

    def run(self, stop: threading.Event) -> int:
        """Go on until told to stop, then end all engines within 8 s. Returns the exit code."""
        try:
            lock = HostLock(self._folder)
        except BlockingIOError:
            say(f"another host has the folder {self._folder.path}")
            return LOCKED
        with lock:
            say(f"the local cloud is at work in {self._folder.path}")
            while not stop.is_set():
                self.step()
                stop.wait(self._tick)
            self.end()
        say("bye")
        return 0

    def step(self) -> None:
        """Take every machine one step further."""
        for machine_id, keeper in self._look().items():
            try:
                keeper.step()
            except (OSError, ValueError, TypeError, Refused) as error:  # one broken machine must not stop the others
                self._complain(machine_id, f"{type(error).__name__}: {error}")
            else:
                self._complaints.pop(machine_id, None)

    def end(self) -> None:
        """End every engine; the machines stay."""
        deadline = time.monotonic() + END_SECONDS
        left = list(self._look().values())
        while left and time.monotonic() < deadline + 1:
            left = [keeper for keeper in left if not self._ended(keeper, time.monotonic() > deadline)]
            time.sleep(0.02 if left else 0)
        local_process.reap()

    def _look(self) -> dict[str, Keeper]:
        local_process.reap()
        places = {place.id: place for place in self._folder.places()}
        self._keepers = {
            machine_id: self._keepers.get(machine_id) or Keeper(self._folder, place, self._grace, self._clock)
            for machine_id, place in places.items()
        }
        return self._keepers

    def _complain(self, machine_id: str, text: str) -> None:
        """Say it once, however often it is so."""
        if self._complaints.get(machine_id) != text:
            say(f"machine {machine_id}: {text}")
        self._complaints[machine_id] = text

    def _ended(self, keeper: Keeper, last: bool) -> bool:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return keeper.end(last)
        return True


def say(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError:  # nobody listens any more; the rest would be tried again at the end, and fail the exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    command = argparse.ArgumentParser(prog="python -m engines.controlplane.providers.local_host", description=__doc__)
    command.add_argument("folder", type=Path)
    command.add_argument("--tick", type=float, default=0.2, help="seconds between two looks")
    command.add_argument("--grace", type=float, default=3.0, help="seconds from SIGTERM to SIGKILL for an engine")
    flags = command.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return Host(flags.folder, tick=flags.tick, grace=flags.grace).run(stop)


if __name__ == "__main__":
    sys.exit(main())
