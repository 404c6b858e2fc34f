"""Two control planes, one database, Redis between them: what one is asked, the engine of the other hears at once."""

import subprocess
import time

import httpx
import pytest

from engines import wire
from portal import services
from tests.controlplane.black_hole import BlackHole
from tests.controlplane.server import Server, until

pytestmark = pytest.mark.processes

ROUNDS = 5
RUNS = 20  # that one key may ask for in a minute
SECONDS = 1.5  # without Redis a socket hears at its tick, up to 5 s later: five times so soon is no chance


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker of its own: its address and its process."""
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "s"
    words = ("--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", "")
    process = subprocess.Popen([services.broker_binary(), *words], stdout=subprocess.DEVNULL)
    until(socket.exists, "the broker")
    yield f"unix://{socket}?db=0", process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory, broker):
    folder = tmp_path_factory.mktemp("api")
    shared = {"REDIS_URL": broker[0], "API_RATES_STORE": broker[0], "API_RATE_RUN": f"{RUNS}/minute"}
    one = Server(folder, **shared)
    other = Server(folder, **shared)
    one.start()
    other.start()
    yield one, other
    one.close()
    other.close()


def test_a_drain_asked_of_one_reaches_an_engine_that_the_other_holds_at_once(two):
    one, other = two
    for number in range(ROUNDS):
        engine = one.register(f"engine-{number}")
        line = one.greet(engine)
        began = time.monotonic()
        assert other.drain(engine).status_code == 200
        line.wait("drain")
        assert time.monotonic() - began < SECONDS
        line.hang_up()


def test_a_task_given_to_one_reaches_an_engine_that_the_other_holds_at_once(two):
    one, other = two
    for number in range(ROUNDS):
        engine = one.register(f"worker-{number}")
        line = one.greet(engine)
        began = time.monotonic()
        other.run(workers=[f"worker-{number}-cpu-0"])
        line.wait("task")
        assert time.monotonic() - began < SECONDS
        line.hang_up()


@pytest.fixture(scope="module")
def address(two):
    """Both behind one address, which each connection reaches in turn."""
    with BlackHole(*(server.port for server in two)) as proxy, two[0].as_seen_by("acme", proxy.port) as both:
        yield both


def test_behind_one_address_it_does_not_matter_who_is_asked(address, two):
    engines = [address.register(f"shared-{number}", cpus=2) for number in range(4)]
    lines = [address.greet(engine) for engine in engines]
    held = address.run_command("shell", "--no-imports", "-c", HOLDERS).split()
    assert len(set(held)) == 2
    for number, (engine, line) in enumerate(zip(engines, lines, strict=True)):
        task = address.run(workers=[f"shared-{number}-cpu-0"])
        assert line.wait("task")["task_id"] == task
        line.say("task_accepted", task_id=task)
        began = time.monotonic()
        address.drain(engine)
        order = line.wait("drain")
        assert time.monotonic() - began < SECONDS
        line.say("task_result", task_id=task, status="completed", output="intact", error="")
        line.say("drained", **order)
        assert line.wait("shutdown") == order
        assert [each.task(task)["output"] for each in two] == ["intact", "intact"]
        line.hang_up()


HOLDERS = """
from engines.controlplane.models import Engine
print(*Engine.objects.filter(name__startswith="shared-").values_list("held_by", flat=True))
"""


def test_behind_one_address_the_newest_connection_wins(address):
    engine = address.register("moving")
    lines = [address.greet(engine) for _ in range(3)]
    assert [line.code()[0] for line in lines[:2]] == [wire.CLOSE_REPLACED] * 2
    assert address.engine(engine)["status"] == "running"
    lines[2].hang_up()


def ask(server, number):
    """Ask for so many runs under a new key, each on a connection of its own; return the answers, in order of size."""
    headers = {"Authorization": f"Bearer {server.make_key('acme')}"}
    body = {"app": "sleep", "workers": ["nobody"]}
    answers = [httpx.post(f"{server.url}/run", json=body, headers=headers, trust_env=False) for _ in range(number)]
    return sorted(answer.status_code for answer in answers)


def test_both_count_one_limit(address):
    assert ask(address, RUNS + 10) == [200] * RUNS + [429] * 10


def test_without_their_store_each_counts_alone_and_all_is_answered(address, two, broker):
    broker[1].kill()
    broker[1].wait()
    assert ask(address, 2 * RUNS + 10) == [200] * 2 * RUNS + [429] * 10
    assert [server.http.get("/engines").status_code for server in (*two, address)] == [200, 200, 200]
    assert "the rate limits' store is away" in two[0].said()


def test_without_redis_it_is_only_later(tmp_path):
    one = Server(tmp_path, REDIS_URL=f"unix://{tmp_path}/nobody?db=0")
    other = Server(tmp_path, REDIS_URL=f"unix://{tmp_path}/nobody?db=0")
    try:
        one.start()
        other.start()
        engine = one.register("alone")
        line = one.greet(engine)
        other.drain(engine)
        line.wait("drain")
        line.hang_up()
    finally:
        one.close()
        other.close()
