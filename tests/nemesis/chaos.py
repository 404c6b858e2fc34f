"""The nemesis: kills, stops and wakes processes, spoils the network and empties the broker, as its dice fall."""

import contextlib
import signal
import time

from tests.nemesis.proxy import CALM

WORKERS = ("worker", "worker-2")
ANYBODY = (*WORKERS * 4, "portal", "beat", "controlplane", "broker")
STORM = {"pass": 6, "refuse": 1, "cut_before": 1, "cut_after": 4, "half": 2, "swallow": 1, "black_hole": 0.5, "late": 2}
BREEZE = {"pass": 14, "late": 2, "cut_after": 1, "half": 1}
LONGEST = 8.0  # seconds between two blows


class Nemesis:
    """`blows` is what was done and when, in seconds since the begin: with the same seed, the same blows."""

    def __init__(self, fleet, random, long_pauses):
        self.fleet, self.random, self.long_pauses = fleet, random, long_pauses
        self.blows, self._later = [], []
        fleet.proxy.weather = STORM
        self._began = time.monotonic()

    def rage(self, seconds, enough):
        """Go on for so long, and on a slow machine longer, until `enough()` has happened under it; at most thrice."""
        while (past := time.monotonic() - self._began) < seconds or (past < 3 * seconds and not enough()):
            blow = self.random.choices(list(BLOWS), list(BLOWS.values()))[0]
            what = blow(self)
            self.blows.append((round(time.monotonic() - self._began, 1), blow.__name__, what))
            until = time.monotonic() + self.random.uniform(0.3, LONGEST) / 2
            while time.monotonic() < until:
                self._mend()
                self.fleet.start_ended_engines()
                self.fleet.add_engines()
                time.sleep(0.1)

    def relent(self):
        """Wake, start and calm everything."""
        self._mend(everything=True)
        self.fleet.proxy.weather = CALM
        self.fleet.proxy.cut()
        for name in self.fleet.START:
            self.fleet.start(name)
        self.fleet.start_ended_engines()

    def after(self, seconds, mend):
        self._later.append((time.monotonic() + seconds, mend))

    def _mend(self, everything=False):
        now = time.monotonic()
        due = [mend for at, mend in self._later if everything or at <= now]
        self._later = [(at, mend) for at, mend in self._later if not everything and at > now]
        for mend in due:
            mend()

    def is_up(self, name):
        """Whether it has come back since the last blow: to hit what is down proves nothing."""
        child = self.fleet.child(name)
        return child.running and (child.spec.answers is None or child.spec.answers())

    def kill_one(self, name):
        child = self.fleet.child(name)
        child.kill()
        self.after(self.random.uniform(0, 4), lambda: None if child.running else child.start())


def kill(self):
    name = self.random.choice(ANYBODY)
    if not self.is_up(name):
        return f"{name} is still down"
    self.kill_one(name)
    return name


def kill_both_workers(self):
    for name in WORKERS:
        self.kill_one(name)


def kill_everything(self):
    """What a host does that loses its power, but for the engines, which are on hosts of their own."""
    for name in self.fleet.START:
        if name != "cloud":
            self.kill_one(name)


def stop(self):
    name, seconds = self.random.choice(ANYBODY), self.random.uniform(0.5, 8)
    if self.long_pauses and self.random.random() < 0.1:
        seconds = self.random.uniform(60, 100)
    child = self.fleet.child(name)
    if not self.is_up(name):
        return f"{name} is still down"
    child.signal(signal.SIGSTOP)
    self.after(seconds, lambda: child.signal(signal.SIGCONT))
    return f"{name} for {seconds:.0f} s"


def spoil_the_network(self):
    self.fleet.proxy.weather = self.random.choice((STORM, STORM, STORM, BREEZE, {"refuse": 1}))
    return str(self.fleet.proxy.weather)


def cut_the_network(self):
    self.fleet.proxy.cut()


def cut_the_engines_off(self):
    self.fleet.sockets.cut()


def empty_the_broker(self):
    with contextlib.suppress(OSError):
        self.fleet.broker("FLUSHALL")


def hang_up_on_the_broker(self):
    with contextlib.suppress(OSError):
        self.fleet.broker("CLIENT", "KILL", "TYPE", "normal")


BLOWS = {
    kill: 6,
    kill_both_workers: 1,
    kill_everything: 0.2,
    stop: 4,
    spoil_the_network: 6,
    cut_the_network: 3,
    cut_the_engines_off: 2,
    empty_the_broker: 1,
    hang_up_on_the_broker: 1,
}
