"""Two control planes, one database, Redis between them: what one is asked, the engine of the other hears at once."""

import subprocess
import time

import pytest

from portal import services
from tests.controlplane.server import Server, until

pytestmark = pytest.mark.processes

ROUNDS = 5
SECONDS = 1.5  # without Redis a socket hears at its tick, up to 5 s later: five times so soon is no chance


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """The address of a broker of its own."""
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "s"
    words = ("--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", "")
    process = subprocess.Popen([services.broker_binary(), *words], stdout=subprocess.DEVNULL)
    until(socket.exists, "the broker")
    yield f"unix://{socket}?db=0"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory, redis):
    folder = tmp_path_factory.mktemp("api")
    one = Server(folder, REDIS_URL=redis)
    other = Server(folder, REDIS_URL=redis)
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
