"""The engine's way to another version of itself, asked by the control plane or typed on its host."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from engines import wire
from engines.agent import config, release, replacement
from engines.agent.release import Unfit
from engines.agent.say import say
from engines.agent.version import VERSION


class Updates:
    """At most one update at a time, prepared while tasks run. `changed` gets each status as it comes."""

    def __init__(self, flags: Sequence[str], changed: Callable[[wire.UpdateStatus], None]) -> None:
        self.status: wire.UpdateStatus | None = None
        self._flags = flags
        self._changed = changed
        self._job: asyncio.Task[None] | None = None
        self._ready: replacement.Replacement | None = None

    def ask(self, update: wire.Update) -> None:
        """Begin to prepare. The epoch that is known already gets its status again; another one takes its place."""
        if self.status is not None and self.status["epoch"] == update["epoch"]:
            self._changed(self.status)
            return
        say(f"update {update['epoch']} asked: {update['version']} from {update['manifest_url']}")
        self.drop()
        self._tell(update["epoch"], "fetching")
        self._job = asyncio.create_task(self._run(update, after=self._job))

    def swap(self) -> str:
        """Put the prepared version in place and return it. Raises Unfit; then the old one is still there."""
        if self._ready is None:
            raise Unfit("there is no update that is fetched and tried")
        self._ready.swap()
        return self._ready.version

    def fail(self, error: str, epoch: int) -> None:
        """It was ready and came to nothing: the old version is where it was. `epoch` counts where none is known."""
        known = self.status or wire.UpdateStatus(epoch=epoch, phase="failed", version="", error="")
        if self._ready is not None:
            try:
                self._ready.undo()
            except OSError as problem:
                error += f"; nor could {self._ready.previous} be put back ({problem.strerror})"
        self.drop()
        self._tell(known["epoch"], "failed", known["version"], error)

    def drop(self) -> None:
        """Stop preparing, and remove what was prepared and not put in place. Does not wait."""
        if self._job is not None:
            self._job.cancel()
        if self._ready is not None:
            self._ready.remove()
            self._ready = None

    async def ended(self) -> None:
        """Return when the work that was dropped has ended too."""
        if self._job is not None:
            await asyncio.wait([self._job])

    async def _run(self, update: wire.Update, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])  # both work in the same folder
        epoch, version = update["epoch"], ""
        try:
            found = await release.find(update["version"], update["manifest_url"])
            version = found.version
            if not found.replaces(update["version"]):
                say(f"update {epoch}: {VERSION} is current, {update['version']} is {version}")
                self._tell(epoch, "current", version)
                return
            self._tell(epoch, "fetching", version)
            self._ready = await replacement.prepare(found, self._flags)
        except Unfit as error:
            say(f"update {epoch} failed, {VERSION} runs on: {error}")
            self._tell(epoch, "failed", version, str(error))
        except Exception as error:  # whatever it is, the control plane must not wait for it
            say(f"update {epoch} failed, {VERSION} runs on: {type(error).__name__}: {error}")
            self._tell(epoch, "failed", version, f"something unforeseen happened ({type(error).__name__}: {error})")
        else:
            say(f"update {epoch}: {version} is fetched and tried, waiting to be drained")
            self._tell(epoch, "ready", version)

    def _tell(
        self, epoch: int, phase: Literal["fetching", "ready", "current", "failed"], version: str = "", error: str = ""
    ) -> None:
        self.status = wire.UpdateStatus(epoch=epoch, phase=phase, version=version, error=error[:1000])
        self._changed(self.status)


async def update_here(wanted: str, base: str | None, flags: Mapping[str, str | None]) -> str:
    """Replace the released file on this host, and say in words what came of it. Raises Unfit or ConfigError."""
    address = release.manifest_url(base or f"{config.api_address(flags)}/dist/engine", wanted)
    found = await release.find(wanted, address)
    if not found.replaces(wanted):
        return f"{VERSION} is current ({wanted} is {found.version}): nothing to do"
    ready = await replacement.prepare(found, _trial(flags))
    try:
        ready.swap()
    finally:
        ready.remove()
    return (
        f"{VERSION} is replaced by {ready.version}; the old file is kept as {ready.previous}\n"
        "An engine that runs now goes on as it is: stop it and start it again, or drain it, to have the new version."
    )


def _trial(flags: Mapping[str, str | None]) -> list[str] | None:
    """The flags to try a build's `config` with; None where already this version cannot start with them."""
    try:
        config.load(flags)
    except config.ConfigError:
        return None
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items() if value is not None]


def command(wanted: str, base: str | None, flags: Mapping[str, str | None]) -> int:
    """`update` on the command line; returns the exit code."""
    try:
        sys.stdout.write(asyncio.run(update_here(wanted, base, flags)) + "\n")
    except (Unfit, config.ConfigError) as error:
        sys.stderr.write(f"not updated: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("not updated: interrupted\n")
        return 1
    return 0
