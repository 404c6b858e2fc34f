"""Which process armed an extension: by host, pid and start time, so that nobody else with that pid is meant."""

import logging
import os
import signal
import socket
from pathlib import Path

log = logging.getLogger(__name__)


def identity() -> str:
    """Return this process as `host:pid:start`."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def is_here(who: str) -> bool:
    """Whether that process is on this host, alive, and not this one."""
    host, pid, start = who.rsplit(":", 2) if who.count(":") >= 2 else ("", "", "")
    if host != socket.gethostname() or not pid.isdecimal() or int(pid) == os.getpid():
        return False
    return bool(start) and _started(int(pid)) == start


def end(who: str) -> None:
    """SIGKILL that process, if it is here: it went silent and must not wake up."""
    if is_here(who):
        pid = int(who.rsplit(":", 2)[1])
        log.error("ending process %s: it armed an extension and then went silent", pid)
        os.kill(pid, signal.SIGKILL)


def _started(pid: int) -> str:
    """Return when the process began, in clock ticks since the boot; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
