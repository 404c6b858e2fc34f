"""Child processes that cannot be left behind: started in a group of their own, watched, stopped in order."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
ASKS_TO_STOP = {signal.SIGINT, signal.SIGTERM}
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants us to stay
    ASKS_TO_STOP.add(signal.SIGHUP)
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a child that died is started again
STEADY = 60.0  # a child that ran this long starts again with the first pause
LOGS_KEPT = 3

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Failed(Exception):
    """The start cannot go on. The text is one line for the person who started it."""


class Stopped(Exception):
    """The person, or the machine, asked to stop."""


@dataclass(frozen=True)
class Spec:
    """What to run, and when it counts as running."""

    name: str
    argv: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of ours
    answers: Callable[[], bool] | None = None  # whether it is ready; None: at once
    may_end: bool = False  # exit code 0 is its own decision: leave it
    without_us: signal.Signals = signal.SIGKILL  # what it gets when we die without having stopped it


class Child:
    """One process and its log file. Its restarts are the caller's business, except for the pause between them."""

    def __init__(self, spec: Spec, logs: Path) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        self.start_at = 0.0  # monotonic; when to start it again
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs, and before the first start."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it. Raises Failed when there is no such program."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            try:
                self._process = spawn(self.spec, stdout=out, stderr=out)
            except OSError as error:
                raise Failed(f"The {self.spec.name} cannot be started: {error}") from error
        self._started, self.start_at = time.monotonic(), 0.0

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause_before_restart(self) -> float:
        """Seconds to wait now; they double with each death that follows soon."""
        if time.monotonic() - self._started > STEADY:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        self.start_at = time.monotonic() + pause
        return pause

    def how_it_ended(self) -> str:
        code = self.code or 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def last_words(self) -> str:
        """The last line of the log: for a Python process, the exception."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


def spawn(spec: Spec, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a process that a Ctrl-C in the terminal does not reach and that does not outlive us."""
    environment = {**os.environ, **spec.environment}
    # Set in some containers: every process would then compile all of Django again at its start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    parent = os.getpid()
    return subprocess.Popen(
        [str(word) for word in spec.argv],
        env=environment,
        **{"stdin": subprocess.DEVNULL, **streams},
        start_new_session=True,
        preexec_fn=lambda: _in_the_child(parent, spec.without_us),
    )


def _in_the_child(parent: int, without_us: signal.Signals) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, without_us, 0, 0, 0)
    # We may have died before the kernel knew whom to tell.
    if os.getppid() != parent:
        os._exit(1)


def rotate(log: Path) -> None:
    """Put the last run's log aside."""
    for number in range(LOGS_KEPT - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            log.with_suffix(f".log.{number}").replace(log.with_suffix(f".log.{number + 1}"))
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".log.1"))


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold the signals that ask to stop until `rest` looks: nothing is ever interrupted halfway.

    Afterwards they are ignored: whoever sends one more while the process ends has been obeyed already.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ASKS_TO_STOP, signal.SIGCHLD))
    try:
        yield
    finally:
        for number in ASKS_TO_STOP:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def rest(seconds: float) -> None:
    """Sleep, or less when a child ends. Raises Stopped when asked to stop. Needs `signals_held`."""
    came = signal.sigtimedwait((*ASKS_TO_STOP, signal.SIGCHLD), seconds)
    if came is not None and came.si_signo in ASKS_TO_STOP:
        raise Stopped


def stop(groups: Sequence[tuple[float, Sequence[Child]]]) -> None:
    """Stop the groups one after the other: SIGTERM, and SIGKILL to what is left when the group's time is up.

    Each group comes with the seconds, counted from the beginning, by which it must be gone.
    """
    began = time.monotonic()
    for seconds, children in groups:
        for child in children:
            child.signal(signal.SIGTERM)
        while any(child.running for child in children) and time.monotonic() - began < seconds:
            time.sleep(0.02)
        for child in children:
            child.kill()
