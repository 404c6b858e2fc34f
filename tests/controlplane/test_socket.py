"""The engine socket of a real server: handshake, frames, and how connections end."""

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from engines import wire
from tests.controlplane.server import Line, Server, until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("api"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def engine(server):
    return server.register()


def refused(server, engine_id, **options):
    with pytest.raises(InvalidStatus) as refusal:
        server.socket(engine_id, **options)
    return refusal.value.response


def test_without_a_key_it_is_a_401(server, engine):
    answer = refused(server, engine, key="inf_wrong")
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_refusal_says_what_an_answer_over_http_says(server, engine):
    answer = refused(server, engine, key="inf_wrong")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["X-Request-ID"] in server.said()


def test_an_engine_of_another_team_is_refused_and_the_log_says_who_asked(server, engine):
    theirs = server.make_key("mallory-inc")
    key_id = httpx.get(f"{server.url}/me", headers={"Authorization": f"Bearer {theirs}"}).json()["data"]["key"]["id"]
    assert refused(server, engine, key=theirs).status_code == 404
    line = next(line for line in server.said().splitlines() if key_id in line)
    assert "WARNING" in line
    assert f"engine {engine}, key {key_id}, from 127.0.0.1: handshake refused, not_found" in line


def test_a_key_that_may_not_connect_engines_is_refused(server, engine):
    assert refused(server, engine, key=server.make_key("acme", "engines:read")).status_code == 403


def test_a_hello_that_is_replayed_changes_nothing(server, engine):
    """C6: what an engine said is said again, by another team's engine and by a process that was replaced."""
    line = server.greet(engine)
    task = server.run(workers=["gpu-1-cpu-0"])
    line.say("task_accepted", task_id=line.wait("task")["task_id"])
    lie = {"task_id": task, "status": "completed", "output": "forged", "error": ""}
    with server.as_seen_by("mallory-inc") as theirs:
        theirs.greet(theirs.register(), results=[lie]).hang_up()
    line.hang_up()
    server.register(engine_id=engine, boot="boot-2")
    late = Line(server.socket(engine))
    late.say("hello", boot_id="boot-1", mode="running", drain_epoch=0, running=[], results=[lie])
    reason = "a newer process of this engine has registered"
    assert late.code() == (wire.CLOSE_REPLACED, reason)
    assert server.task(task)["output"] is None
    [logged] = [line for line in server.said().splitlines() if reason in line]
    assert "WARNING" in logged
    assert f"engine {engine}, key key_" in logged


def test_the_request_id_of_a_call_is_in_its_answer_and_in_the_log(server):
    answer = server.http.get("/engines/eng_none", headers={"X-Request-ID": "seen-by-both-1"})
    assert answer.headers["X-Request-ID"] == "seen-by-both-1"
    assert answer.json()["request_id"] == "seen-by-both-1"
    assert "[seen-by-both-1] " in next(line for line in server.said().splitlines() if "eng_none" in line)


def test_an_unknown_engine_is_a_404(server):
    assert refused(server, "eng_none").status_code == 404


def test_a_browser_is_a_403(server, engine):
    assert refused(server, engine, origin="https://portal.example").status_code == 403


def test_without_the_subprotocol_it_is_a_400(server, engine):
    assert refused(server, engine, subprotocols=["engines.v0"]).status_code == 400


def test_the_subprotocol_is_confirmed(server, engine):
    with server.socket(engine) as websocket:
        assert websocket.subprotocol == wire.SUBPROTOCOL


def test_a_task_goes_out_and_its_result_comes_back(server, engine):
    line = server.greet(engine)
    task = server.run(workers=["gpu-1-cpu-0"], input={"seconds": 1})
    assert line.wait("task")["input"] == {"seconds": 1}
    line.say("task_accepted", task_id=task)
    line.say("task_result", task_id=task, status="completed", output=[1], error="")
    assert line.wait("result_ack") == {"task_id": task}
    assert server.task(task)["output"] == [1]
    line.hang_up()


def test_the_status_follows_the_connection(server, engine):
    line = server.greet(engine)
    assert server.engine(engine)["status"] == "running"
    line.hang_up()
    until(lambda: server.engine(engine)["status"] == "disconnected", "the engine to be lost")


def test_a_drain_goes_out_at_once_and_ends_in_shutdown(server, engine):
    line = server.greet(engine)
    assert server.drain(engine).json()["status"] == "draining"
    line.say("drained", **line.wait("drain"))
    assert line.wait("shutdown") == {"epoch": 1}
    assert server.engine(engine)["status"] == "stopped"
    line.hang_up()


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        ("{", wire.CLOSE_REFUSED, "not JSON"),
        ('{"type": "gossip"}', wire.CLOSE_REFUSED, "unknown type"),
        ('{"type": "hello", "data": {}}', wire.CLOSE_REFUSED, "second hello"),
        (b"binary", wire.CLOSE_REFUSED, "text"),
        ('"' + "x" * wire.FRAME_LIMIT + '"', 1009, "bytes"),
    ],
)
def test_a_bad_frame_ends_its_connection_with_a_reason_and_no_other(server, engine, frame, code, reason):
    bystander = server.greet(server.register("bystander"))
    line = server.greet(engine)
    line.websocket.send(frame)
    ended = line.code()
    assert ended[0] == code
    assert reason in ended[1]
    bystander.say("heartbeat", mode="running")
    assert bystander.websocket.ping().wait(5)
    bystander.hang_up()


def test_the_first_frame_must_be_hello(server, engine):
    line = Line(server.socket(engine))
    line.say("heartbeat", mode="running")
    assert line.code() == (wire.CLOSE_REFUSED, "the first frame must be hello")
    assert server.engine(engine)["status"] == "pending"


def test_the_newest_connection_ends_the_older_one(server, engine):
    old, new = server.greet(engine), server.greet(engine)
    assert old.code()[0] == wire.CLOSE_REPLACED
    assert server.engine(engine)["status"] == "running"
    new.hang_up()


def test_a_body_of_any_length_is_refused_without_being_kept(server):
    answer = server.http.post("/run", content=(b"x" * 100_000 for _ in range(50)))
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (413, "payload_too_large")


def test_an_announced_length_is_refused_before_it_arrives(server):
    assert server.http.post("/run", content=b"x" * 2_000_000).status_code == 413
    assert server.http.get("/healthz").is_success
