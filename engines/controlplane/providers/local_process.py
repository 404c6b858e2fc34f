"""An engine process on this machine, recognised after a restart of whoever started it. Linux only (/proc)."""

import os
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]  # where `engines` can be imported from
LOG_LIMIT = 1024 * 1024  # bytes of a log that the next start goes on writing to
DEFUNCT = ("Z", "X")

# Waits for the engine and notes its exit code ($0 is the file), which only a parent can know: a host that comes later
# is none. The signals of the group are for the engine.
NOTING = 'trap : TERM INT HUP; "$@"; printf %s "$?" >"$0.new" && mv -f "$0.new" "$0"'


@dataclass(frozen=True)
class Process:
    """The leader of an engine's process group. A number that was given out again is another process."""

    pid: int
    started: int  # clock ticks between the kernel's start and the process's
    kernel: str  # this start of the kernel

    def alive(self) -> bool:
        return self.kernel == _kernel() and _started(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """To its whole group. One that has ended gets nothing."""
        if self.alive():
            try:
                os.killpg(os.getpgid(self.pid), number)
            except ProcessLookupError:
                return


_children: list["subprocess.Popen[bytes]"] = []  # started by this process, and not known to have ended


def reap() -> None:
    """Let the children that have ended go."""
    _children[:] = [child for child in _children if child.poll() is None]


def start(command: list[str], *, key: str, log: Path, exit_file: Path) -> Process:
    """Start the engine in a session of its own. It lives on when this process ends. Raises OSError."""
    exit_file.unlink(missing_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    with open(log, "ab") as output:
        child = subprocess.Popen(
            ["/bin/sh", "-c", NOTING, str(exit_file), *command],
            cwd=ROOT,
            env=environment(key),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(child)
    return Process(child.pid, _started(child.pid) or 0, _kernel())


def environment(key: str) -> dict[str, str]:
    """All that an engine gets to know: nothing of the portal's own secrets."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "INFERENCE_API_KEY": key,
    }


def find(argument: str) -> Process | None:
    """Return the eldest process that was started with this argument."""
    found = [process for pid in Path("/proc").iterdir() if (process := _with(pid, argument.encode()))]
    return min(found, key=lambda process: process.started, default=None)


def _with(path: Path, argument: bytes) -> Process | None:
    if not path.name.isdecimal():
        return None
    try:
        arguments = (path / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    started = _started(int(path.name)) if argument in arguments else None
    return None if started is None else Process(int(path.name), started, _kernel())


def _started(pid: int) -> int | None:
    """When the process was started, None if it has ended (though perhaps nobody has noticed yet)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    rest = stat.rpartition(")")[2].split()
    return None if rest[0] in DEFUNCT else int(rest[19])


@cache
def _kernel() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
