"""`manage.py up`: the portal, its workers, the Engines API and a demo fleet, on this machine, from nothing.

One process looks after all others: what dies is started again, and nothing is left behind when it stops.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO

import httpx
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Max

from engines.agent.version import VERSION
from portal import fleet, services
from portal.env import DATA_DIR, broker_socket, env
from portal.processes import Child, Failed, Spec, Stopped, rest, rotate, signals_held, spawn, stop
from portal.services import Place

Pause = Callable[[float], None]

READY_SECONDS = 60.0  # how long a process may take to answer; a cold machine compiles everything first
PREPARING = {
    "migrate-portal": ("Migrating the portal's database", ("migrate", "--noinput", "--database", "default")),
    "migrate-api": ("Migrating the control plane's database", ("migrate", "--noinput", "--database", "controlplane")),
    "static-files": ("Collecting the static files", ("collectstatic", "--noinput", "--verbosity", "0")),
}
RELEASES = {"stable": VERSION, "canary": fleet.canary(VERSION)}
FLEET = {"studio-a": 3, "studio-b": 2, "night-shift": 2}  # CPU workers
READER = "engines:read"
BUYER = "engines:read,engines:write,billing:read"
TASKS = f"{BUYER},tasks:read,tasks:write"
PEOPLE = {"admin@demo.example": f"{TASKS},apikeys:write", "billing@demo.example": BUYER, "auditor@demo.example": READER}
PROGRAMS = {"engines": ("Demo engines", "engines:read,engines:write"), "feeder": ("Demo tasks", TASKS)}


@dataclass(frozen=True)
class Demo:
    """What the demo team's start needs to know again next time. Kept with mode 0600."""

    password: str  # in a file of its own, for people and scripts
    base_url: str
    engines: str  # the API key of the demo engines
    feeder: str  # and of the process that gives them tasks

    @classmethod
    def read(cls, place: Place) -> "Demo | None":
        folder = place.data / "secrets"
        try:
            password = (folder / "demo_password").read_text().strip()
            return cls(password, **json.loads((folder / "demo.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, place: Place) -> None:
        folder, facts = place.data / "secrets", asdict(self)
        services.private(folder / "demo_password", facts.pop("password") + "\n")
        services.private(folder / "demo.json", json.dumps(facts) + "\n")


def here() -> Place:
    """The place that the environment names."""
    embedded = not env.str("REDIS_URL", "")
    return Place(DATA_DIR, settings.PORTAL_PORT, settings.API_PORT, broker_socket() if embedded else None)


def up(place: Place) -> None:
    """Start everything and look after it until asked to stop. Raises Failed, with nothing left running."""
    os.umask(0o077)
    with signals_held(), only_one(place):
        site = Site(place)
        try:
            site.start()
            site.watch()
        except Stopped:
            say("Stopping…")
        finally:
            site.stop()
        say("Stopped.")


class Site:
    """The processes of one start, in the order in which they were started."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.children: list[Child] = []

    def start(self) -> None:
        preflight(self.place)
        if self.place.broker is not None:
            self._ready(self.launch(services.broker(self.place)))
        say("Preparing the databases…")
        prepare(self.place)
        say("Starting…")
        image = fleet.released(self.place, VERSION)
        control_plane, portal = (
            self.launch(services.control_plane(self.place, image)),
            self.launch(services.portal(self.place)),
        )
        self.launch(services.cloud(self.place))
        before = last_sign()
        worker = self.launch(services.worker(self.place))
        self.launch(services.beat(self.place))
        self._ready(control_plane)
        demo = demo_team(self.place)
        self._ready(portal)
        for name, cpus in FLEET.items():
            program = fleet.program(self.place, name, VERSION)
            self.launch(services.engine(self.place, name, cpus, demo.engines, program))
        self.launch(services.feeder(self.place, demo.feeder))
        works = wait_for_work(worker, before)
        say(banner(self.place, demo))
        if not works:
            say(f"! The worker does not answer. What is asked for is saved, and waits for it. Its log: {worker.log}")

    def watch(self) -> None:
        """Start again what dies. Returns never; `rest` raises Stopped."""
        while True:
            for child in list(self.children):
                self._look_after(child)
            rest(0.5)

    def stop(self) -> None:
        """Stop all, in order: who gives work, who does it, who is asked, who carries the messages."""
        # One after the other would take longer than the 10 s that a stop may take.
        last = {"feeder": (1.0, 0), "controlplane": (8.0, 2), "broker": (9.0, 3)}
        groups: dict[tuple[float, int], list[Child]] = {}
        for child in reversed(self.children):
            groups.setdefault(last.get(child.spec.name, (6.5, 1)), []).append(child)
        stop([(seconds, groups[seconds, turn]) for seconds, turn in sorted(groups, key=lambda key: key[1])])

    def launch(self, spec: Spec) -> Child:
        """Start one more process, with the last run's log put aside."""
        child = Child(spec, self.place.logs)
        rotate(child.log)
        child.start()
        self.children.append(child)
        return child

    def _ready(self, child: Child) -> None:
        wait_until_ready(child, rest)

    def _look_after(self, child: Child) -> None:
        if child.running:
            return
        if child.code == 0 and child.spec.may_end:
            self.children.remove(child)
            say(f"  {child.spec.name} is drained and has ended. {again(child)}")
        elif not child.start_at:
            pause = child.pause_before_restart()
            say(f"! {child.spec.name} {child.how_it_ended()}; it starts again in {pause:.0f} s. Log: {child.log}")
        elif time.monotonic() >= child.start_at:
            try:
                child.start()
            except Failed as failure:
                say(f"! {failure}; next try in {child.pause_before_restart():.0f} s.")
            else:
                say(f"  {child.spec.name} was started again.")


@contextlib.contextmanager
def only_one(place: Place) -> Iterator[None]:
    """Hold the data folder for this process. Raises Failed if another `up` has it or it cannot be written."""
    try:
        place.logs.mkdir(parents=True, exist_ok=True)
        lock = (place.data / "up.lock").open("a+")
    except OSError as error:
        raise Failed(f"DATA_DIR {place.data} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(_held(place, lock)) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _held(place: Place, lock: IO[str]) -> str:
    lock.seek(0)
    return f"{place.data} is in use by another start (process {lock.read().strip()}). Stop it, or set DATA_DIR."


def preflight(place: Place) -> None:
    """Raise Failed for what would go wrong in a minute."""
    for name, port in (("PORTAL_PORT", place.portal_port), ("API_PORT", place.api_port)):
        if services.taken(port):
            raise Failed(f"Port {port} on 127.0.0.1 is taken. Set {name} to another, or stop what listens there.")
    if place.broker is not None:
        services.broker_binary()


def prepare(place: Place, pause: Pause = rest) -> None:
    """Migrate both databases, collect the static files and build the engine. Raises Failed with the cause."""
    specs = [services.manage(place, name, *words) for name, (_, words) in PREPARING.items()]
    specs += [services.release(place, tag, channel) for channel, tag in RELEASES.items()]
    jobs = [Child(spec, place.logs) for spec in specs]
    try:
        for job in jobs:
            rotate(job.log)
            job.start()
        while any(job.running for job in jobs):
            pause(0.1)
    finally:
        for job in jobs:
            job.kill()
    for job in jobs:
        if job.code:
            what = PREPARING.get(job.spec.name, ("Building the engine's releases", ()))[0]
            raise Failed(f"{what} failed: {job.last_words()} (all of it: {job.log})")


def wait_until_ready(child: Child, pause: Pause = rest) -> None:
    """Return when the child answers. Raises Failed if it ends before, or stays silent."""
    deadline = time.monotonic() + READY_SECONDS
    while child.spec.answers is not None and not child.spec.answers():
        if not child.running:
            raise Failed(f"The {child.spec.name} {child.how_it_ended()}: {child.last_words()} (all of it: {child.log})")
        if time.monotonic() > deadline:
            raise Failed(f"The {child.spec.name} did not answer within {READY_SECONDS:.0f} s. Its log: {child.log}")
        pause(0.05)


def wait_for_work(worker: Child, before: datetime | None, pause: Pause = rest, seconds: float = READY_SECONDS) -> bool:
    """Wait until the worker says that it is at work. False if it ends before, or stays silent.

    `before` is the last sign of any worker before this one was started.
    """
    deadline = time.monotonic() + seconds
    while worker.running and time.monotonic() < deadline:
        sign = last_sign(of=f":{worker.pid}")
        if sign and (before is None or sign > before):  # an earlier worker may have had the same number
            return True
        pause(0.2)
    return False


def last_sign(of: str = "") -> datetime | None:
    """Return when a worker was last at work, by the database's clock; None if never, or if that cannot be read now."""
    from engines.models import Automation  # not above: this file is imported without Django's applications too

    try:
        found: datetime | None = Automation.objects.filter(worker__endswith=of).aggregate(Max("seen_at"))[
            "seen_at__max"
        ]
    except DatabaseError:
        return None
    finally:
        connection.close()
        if hasattr(connection, "close_pool"):  # PostgreSQL's: its threads have no place in a process that forks
            connection.close_pool()
    return found


def demo_team(place: Place) -> Demo:
    """Make the demo team, its people and their keys, or return what an earlier start has made."""
    known = Demo.read(place)
    password = env.str("DEMO_PASSWORD", "") or (known.password if known else secrets.token_urlsafe(12))
    if known and known == Demo(password, place.api_url, known.engines, known.feeder) and accepts(known):
        return known
    wanted = {email: (f"Portal, {email}", scopes) for email, scopes in PEOPLE.items()}
    keys = make_keys(place, {**wanted, **PROGRAMS})
    demo = Demo(password, place.api_url, *(keys.pop(name) for name in PROGRAMS))
    ask(place, "make_demo", {"password": password, "base_url": place.api_url, "keys": keys})
    ask(place, "set_balance", None, words=("--team", "demo", "--dollars", fleet.BALANCE))
    if trouble := fleet.rent(place, demo.feeder):
        say(f"! The demo has no cloud engine: {trouble}")
    # Last: a start that ends before this line makes the team again.
    demo.keep(place)
    return demo


def accepts(demo: Demo) -> bool:
    """Whether the control plane still knows the kept key: its database may be a new one."""
    headers = {"Authorization": f"Bearer {demo.engines}"}
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{demo.base_url}/me", headers=headers, timeout=5, trust_env=False).status_code == 200
    return False


def make_keys(place: Place, wanted: dict[str, tuple[str, str]], pause: Pause = rest) -> dict[str, str]:
    """Make control-plane keys for the demo team: {who: (name, scopes)} to {who: key}."""
    said = ask(place, "create_demo_keys", wanted, pause)
    return {who: str(key) for who, key in json.loads(said).items()}


def ask(place: Place, command: str, given: object, pause: Pause = rest, words: tuple[str, ...] = ()) -> str:
    """Run a `manage.py` command with JSON on its stdin; return what it printed. Raises Failed with its last words."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = spawn(services.manage(place, command, command, *words), **pipes)
    try:
        # What goes in and out is small: no pipe fills up while nobody reads it.
        assert process.stdin is not None
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
        process.stdin = None  # else communicate() wants to flush it
        while process.poll() is None:
            pause(0.05)
    finally:
        process.kill()
        said, wrong = (text.decode().strip() for text in process.communicate())
    if process.returncode:
        raise Failed(f"manage.py {command} failed: {(wrong or said or 'no reason given').splitlines()[-1]}")
    return said


def again(child: Child) -> str:
    """How to start a drained engine again, in words that can be pasted."""
    return f"It comes back with the next start, or now with: {shlex.join(str(word) for word in child.spec.argv)}"


def banner(place: Place, demo: Demo) -> str:
    fleet = ", ".join(f"{name} ({cpus} workers)" for name, cpus in FLEET.items())
    return f"""
  Portal       {place.portal_url}
  Engines API  {place.api_url}
  Demo fleet   {fleet}

  Sign in as   {"  ".join(PEOPLE)}
  Password     {demo.password}

  Logs are in {place.logs}. Ctrl-C stops everything; the data stays.
"""


def say(line: str) -> None:
    """Tell the person. A terminal that is gone must not keep us from stopping."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stdout, flush=True)  # noqa: T201
