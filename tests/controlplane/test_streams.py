"""Streams of a real server: the whole object at once and after every change, and how they end."""

import contextlib
import json

import httpx
import pytest

from tests.controlplane.server import PATIENCE, Server, until

pytestmark = pytest.mark.processes

HEARTBEAT = '{"type":"heartbeat"}'
LINES, EVENTS = "application/x-ndjson", "text/event-stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("api"))
    server.start()
    yield server
    server.close()


@contextlib.contextmanager
def following(server, path, accept=LINES, key=None):
    """Give the lines of a stream, one by one."""
    headers = {"Accept": accept} | ({"Authorization": f"Bearer {key}"} if key else {})
    with server.http.stream("GET", path, headers=headers, timeout=PATIENCE) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith(accept)
        yield answer.iter_lines()


def objects(lines):
    return (json.loads(line) for line in lines if line and line != HEARTBEAT)


def test_an_engine_is_shown_at_once_and_after_a_change(server):
    engine_id = server.register()
    with following(server, f"/engines/{engine_id}/stream") as lines:
        seen = objects(lines)
        assert next(seen)["status"] == "pending"
        line = server.greet(engine_id)
        until(lambda: next(seen)["status"] == "running", "the change")
        server.http.post(f"/engines/{engine_id}", json={"name": "renamed"})
        until(lambda: next(seen)["name"] == "renamed", "the new name")
        line.hang_up()


def test_events_are_unnamed_and_hold_the_bare_engine(server):
    engine_id = server.register()
    with following(server, f"/engines/{engine_id}/stream", EVENTS) as lines:
        first = next(lines)
    assert first.startswith("data: ")
    assert json.loads(first.removeprefix("data: "))["id"] == engine_id


def test_a_stream_ends_when_its_engine_is_deleted(server):
    engine_id = server.register()
    with following(server, f"/engines/{engine_id}/stream") as lines:
        next(lines)
        assert server.http.delete(f"/engines/{engine_id}").status_code == 204
        assert list(objects(lines)) == []


def test_a_task_is_followed_to_its_end(server):
    engine_id = server.register()
    line = server.greet(engine_id)
    task_id = server.run(workers=["gpu-1-cpu-0"])
    with following(server, f"/tasks/{task_id}/stream") as lines:
        given = line.wait("task")
        line.say("task_accepted", task_id=given["task_id"])
        line.say("task_update", task_id=given["task_id"], progress=0.5, message="half", log="one line")
        line.say("task_result", task_id=given["task_id"], status="completed", output={"x": 1}, error="")
        seen = list(objects(lines))
    assert (seen[-1]["status"], seen[-1]["output"]) == (10, {"x": 1})
    assert seen[-1]["logs"][0]["content"] == "one line"
    line.hang_up()


def test_a_task_that_has_ended_is_shown_once(server):
    task_id = server.run(workers=["nobody"])
    server.http.post(f"/tasks/{task_id}/cancel")
    with following(server, f"/tasks/{task_id}/stream") as lines:
        assert [each["status"] for each in objects(lines)] == [12]


def test_the_teams_events_name_what_changed(server):
    engine_id = server.register()
    with following(server, "/events") as lines:
        seen = objects(lines)
        server.http.post(f"/engines/{engine_id}", json={"name": "seen by all"})
        found = until(
            lambda: next((each for each in [next(seen)] if each["data"].get("name") == "seen by all"), None), "it"
        )
        assert (found["event"], found["data"]["id"]) == ("engines", engine_id)
        task_id = server.run(workers=["nobody"])
        until(lambda: next(seen)["data"]["id"] == task_id, "the task")


def test_a_stream_of_a_key_that_is_revoked_is_cut(server):
    made = server.http.post("/apikeys", json={"name": "short-lived"}).json()
    engine_id = server.register()
    with following(server, f"/engines/{engine_id}/stream", key=made["key"]) as lines:
        next(lines)
        assert server.http.delete(f"/apikeys/{made['id']}").status_code == 204
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def test_another_teams_engine_has_no_stream(server):
    assert server.http.get("/engines/eng_none/stream").status_code == 404


def test_a_server_that_stops_does_not_wait_for_streams(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        engine_id = server.register()
        with following(server, f"/engines/{engine_id}/stream") as lines:
            next(lines)
            assert server.stop() < 8
            with pytest.raises(httpx.TransportError):
                list(lines)
    finally:
        server.close()
