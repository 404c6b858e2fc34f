"""Engines that send too much, take nothing, or fall silent without hanging up: each is its own problem only."""

import contextlib
import json
import socket
import statistics
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

from engines import wire
from engines.controlplane import connection
from tests.controlplane.black_hole import BlackHole
from tests.controlplane.server import Line, Server, until

pytestmark = pytest.mark.processes

DEAD_AFTER = 3  # seconds; the product's 45
SEND_SECONDS = 1  # the product's 10
FLOOD_SECONDS = 4.0
BOUND = 10.0  # seconds in which somebody else's task comes and goes, on a machine that is busy with the flood
USUAL = 1.0  # seconds, half of the times
HEARTBEAT = json.dumps({"type": "heartbeat", "data": {"mode": "running"}})
NEWS = json.dumps({"type": "task_update", "data": {"task_id": "task_none", "progress": 0.5}})


class Hasty(Server):
    application = "tests.controlplane.hasty:application"
    options = ("--ws-max-size", str(wire.FRAME_LIMIT))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    server = Hasty(folder, DEAD_AFTER=str(DEAD_AFTER), SEND_SECONDS=str(SEND_SECONDS))
    server.start()
    yield server
    server.close()


@contextlib.contextmanager
def beating(line):
    """Keep the engine's heartbeat up."""
    over = threading.Event()

    def beat():
        with contextlib.suppress(ConnectionClosed, OSError):
            while not over.wait(DEAD_AFTER / 6):
                line.say("heartbeat", mode="running")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Bystander:
    """An engine that does what it is given."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.line = server.greet(server.register(name))

    def serve(self):
        """Run a task through, and return the seconds that it took."""
        began = time.monotonic()
        task = self.server.run(workers=[f"{self.name}-cpu-0"])
        assert self.line.wait("task")["task_id"] == task
        self.line.say("task_accepted", task_id=task)
        self.line.say("task_result", task_id=task, status="completed", output=1, error="")
        self.line.wait("result_ack")
        assert self.server.task(task)["status"] == 10
        return time.monotonic() - began


@pytest.fixture
def bystander(server, request):
    bystander = Bystander(server, f"bystander-{request.node.name}"[:60])
    with beating(bystander.line):
        yield bystander
    bystander.line.hang_up()


def status(server, engine):
    return server.engine(engine)["status"]


def test_a_frame_over_the_limit_ends_its_connection_with_1009(server, bystander):
    """C7."""
    line = server.greet(server.register("large"))
    with contextlib.suppress(ConnectionClosed):
        line.websocket.send('{"type": "heartbeat", "data": "' + "x" * 3 * wire.FRAME_LIMIT + '"}')
    assert line.code()[0] == 1009
    assert bystander.serve() < BOUND


def pour(line, message, over):
    """Send 10,000 a second, or what is taken, straight into the TCP connection."""
    hundred = (bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message.encode()) * 100  # masked with zeros
    with contextlib.suppress(OSError):
        while not over.wait(0.01):
            line.websocket.socket.sendall(hundred)


@pytest.mark.parametrize("message", [HEARTBEAT, NEWS], ids=["heartbeats", "updates"])
def test_a_flood_of_frames_holds_up_nobody_else(server, bystander, message, request):
    flooder, over = server.greet(server.register(f"flooder-{request.node.callspec.id}")), threading.Event()
    pouring = threading.Thread(target=pour, args=(flooder, message, over))
    pouring.start()
    began, times = time.monotonic(), []
    while time.monotonic() - began < FLOOD_SECONDS:
        times.append(bystander.serve())
    over.set()
    flooder.websocket.socket.shutdown(socket.SHUT_RDWR)
    pouring.join()
    assert max(times) < BOUND
    assert statistics.median(times) < USUAL


def test_an_engine_is_read_at_a_pace_of_its_own(server):
    line = server.greet(server.register("talker"))
    hurried = connection.FRAMES_AT_ONCE + 2 * connection.FRAMES_A_SECOND
    began = time.monotonic()
    for _ in range(int(hurried)):
        line.websocket.send(HEARTBEAT)
    line.say("task_result", task_id="task_none", status="completed", output=1, error="")
    line.wait("result_ack")
    assert time.monotonic() - began > 1.9
    line.hang_up()


def test_a_reader_that_never_reads_is_let_go_and_gets_its_tasks_when_it_is_back(server, bystander):
    engine = server.register("deaf", cpus=12)
    deaf = greet_deaf(server, engine)
    with beating(deaf):
        tasks = [server.run(workers=[f"deaf-cpu-{n}"], input={"text": "x" * 850_000}) for n in range(12)]
        until(lambda: status(server, engine) == "disconnected", "the engine to be let go")
        assert "frames are not taken" in server.said()
        assert bystander.serve() < BOUND
        deaf.websocket.socket.shutdown(socket.SHUT_RDWR)
    deaf.hang_up()
    line = server.greet(engine)
    with beating(line):  # so much takes a busy machine longer than a silent engine is given here
        assert {line.wait("task")["task_id"] for _ in tasks} == set(tasks)
    line.hang_up()


def greet_deaf(server, engine):
    """Connect with an end of the line that takes next to nothing as long as nobody asks for it."""
    ear = socket.socket()
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ear.connect(("127.0.0.1", server.port))
    line = Line(server.socket(engine, sock=ear, max_queue=1, compression=None))
    line.say("hello", boot_id="boot-1")
    line.wait("welcome")
    return line


def test_a_line_that_carries_nothing_any_more_counts_as_lost_and_its_task_does_not(server):
    """C3: half-open, by a proxy that takes everything and passes nothing on."""
    engine = server.register("pulled")
    with BlackHole(server.port) as cable:
        line = greet_through(server, cable, engine)
        task = server.run(workers=["pulled-cpu-0"])
        line.wait("task")
        line.say("task_accepted", task_id=task)
        until(lambda: server.task(task)["status"] == 7, "the task to run")
        began = time.monotonic()
        cable.swallow()
        until(lambda: status(server, engine) == "disconnected", "the engine to be missed")
        assert DEAD_AFTER - 1 < time.monotonic() - began < DEAD_AFTER + BOUND
        assert server.task(task)["status"] == 7
        line.websocket.socket.close()
    back = server.greet(engine, running=[task])
    back.say("task_result", task_id=task, status="completed", output="intact", error="")
    back.wait("result_ack")
    ended = server.task(task)
    assert (ended["output"], [event["kind"] for event in ended["events"]].count("dispatched")) == ("intact", 1)
    back.hang_up()


def greet_through(server, cable, engine):
    line = Line(server.socket(engine, sock=socket.create_connection(("127.0.0.1", cable.port))))
    line.say("hello", boot_id="boot-1")
    line.wait("welcome")
    return line
