"""Whether a version that was put in place has ever been welcome. One that ends before that makes way for the last one.

The word for it lies beside the released file: the process that put the version there, and the version.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from engines.agent import installed
from engines.agent.say import say
from engines.agent.version import VERSION

# Exit codes that say nothing about the version: it was asked to end on this host, once or twice; a newer process took
# its place; an older one still has its state (engine.DONE, FORCED, REPLACED, LOCKED).
FINE = (0, 1, 3, 4)
_proven = False  # this process was welcome once


def previous(file: Path) -> Path:
    return file.with_name(f"{file.name}.previous")


def _word(file: Path) -> Path:
    return file.with_name(f"{file.name}.unproven")


def doubt(file: Path, version: str) -> None:
    """Note that `version`, which is about to lie at `file`, still has to prove itself. Raises OSError."""
    _word(file).write_text(f"{os.getpid()} {version}")


def believe(file: Path) -> None:
    _word(file).unlink(missing_ok=True)


def welcomed() -> None:
    """The control plane has taken this process in: this version works."""
    global _proven
    if installed.FILE is not None and in_doubt():
        with contextlib.suppress(OSError):  # the file is another user's, who put the version there
            believe(installed.FILE)
    _proven = True


def run(main: Callable[[], int]) -> int:
    """Run the program. If it is a new version's `serve` that ends unproven, go on as the version before instead."""
    code: object
    try:
        code = main()
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
    except Exception:
        traceback.print_exc()
        code = -1
    if installed.FILE is not None and sys.argv[1:2] == ["serve"] and code not in FINE and in_doubt():
        _go_back(installed.FILE, code)
    return code if isinstance(code, int) and code >= 0 else 1


def in_doubt() -> bool:
    """Whether this process has to prove the version it runs. Another's doubts are its own, as long as it lives."""
    if installed.FILE is None or _proven:
        return False
    try:
        pid, _, version = _word(installed.FILE).read_text().partition(" ")
        return version == VERSION and (int(pid) == os.getpid() or not runs(int(pid)))
    except (OSError, ValueError):
        return False


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _go_back(file: Path, code: object) -> None:
    """Put the file before back in place and become it. Returns only if that fails."""
    say(f"{VERSION} ended with {code} before it was connected: the version before takes its place again")
    try:
        previous(file).replace(file)
        believe(file)
        start_again()
    except OSError as error:
        say(f"it cannot: {error}")


def start_again() -> None:
    """Become the file that lies in this one's place, as it was started. Raises OSError."""
    # The new program opens the state directory anew: this one's lock is not passed on and goes with it.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # as it was started
