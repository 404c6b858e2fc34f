"""Every operation of /openapi.json, well and not, in the contract's three formats (ENGINES_API.md 1.3 and 1.6)."""

import json

import pytest

from engines.controlplane import streams
from tests.controlplane import calls

BARE = "/healthz"  # read by tools that know nothing of formats
VERSIONS = {"1": "old", "2": "bare", "": "both"}
OPERATIONS = sorted(calls.operations())
WITH_ID = [operation for operation in OPERATIONS if "{" in operation]

every_version = pytest.mark.parametrize("version", VERSIONS, ids=VERSIONS.get)


@every_version
@pytest.mark.parametrize("operation", [one for one in OPERATIONS if not calls.is_stream(one)])
def test_a_success(scene, operation, version):
    answer = scene.call(operation, version)
    assert str(answer.status_code) in calls.operations()[operation]["responses"]
    assert answer.status_code < 300, answer.content
    if answer.status_code == 204:
        assert answer.content == b""
    else:
        assert answer["Content-Type"].partition(";")[0] == "application/json"
        check_success(operation, version, answer.json(), answer.status_code)


def check_success(operation, version, body, status):
    if operation.endswith(BARE) or version == "2":
        assert not isinstance(body, dict) or not {"success", "data", "messages"} & set(body)
    elif version == "1":
        assert (sorted(body), body["success"], body["status"]) == (["data", "status", "success"], True, status)
    else:
        assert sorted(body) == ["data", "messages", "status", "success"]
        assert (body["success"], body["status"], type(body["messages"])) == (True, status, list)


# Other threads read for a stream: what the test wrote must be committed.
@pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])
@every_version
@pytest.mark.parametrize("operation", [one for one in OPERATIONS if calls.is_stream(one)])
def test_a_stream_is_never_wrapped(scene, operation, version):
    answer = scene.call(operation, version)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    if operation != "GET /events":
        event = calls.first(answer)
        assert {"id", "status"} <= set(json.loads(event.removeprefix("data: "))), event


HEARTBEATS = {"text/event-stream": b": heartbeat\n\n", "application/x-ndjson": b'{"type":"heartbeat"}\n'}


@pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])
@pytest.mark.parametrize("kind", HEARTBEATS)
@pytest.mark.parametrize("operation", [one for one in OPERATIONS if calls.is_stream(one)])
def test_a_stream_that_has_nothing_to_tell_beats(scene, operation, kind, monkeypatch):
    for name in ("HEARTBEAT_SECONDS", "TICK_SECONDS", "LEAST_PAUSE"):
        monkeypatch.setattr(streams, name, 0.01)
    answer = scene.caller.get(scene.path(operation), accept=kind)
    assert answer["Content-Type"] == kind
    parts = calls.parts(answer, until=HEARTBEATS[kind])
    assert parts.count(HEARTBEATS[kind]) == 1
    assert len(parts) > 1  # what there is to tell comes first


@every_version
@pytest.mark.parametrize("operation", [one for one in OPERATIONS if calls.needs_key(one)])
def test_no_key(scene, operation, version):
    scene.caller.key = ""
    answer = scene.call(operation, version)
    assert answer["WWW-Authenticate"] == "Bearer"
    check_failure(version, answer, 401, "unauthorized")


@every_version
@pytest.mark.parametrize("operation", [one for one in OPERATIONS if not calls.needs_key(one)])
def test_a_wrong_method(scene, operation, version):
    """What needs no key has nothing else that could be wrong about every one."""
    check_failure(version, scene.caller.send("put", scene.path(operation), {}, version), 405, "method_not_allowed")


@every_version
@pytest.mark.parametrize("operation", WITH_ID)
def test_an_unknown_id(scene, operation, version):
    check_failure(version, scene.call(operation, version, known=False), 404, "not_found")


def check_failure(version, answer, status, code):
    body = answer.json()
    assert answer.status_code == status, body
    assert answer["Content-Type"] == ("application/json" if version == "1" else "application/problem+json")
    if version == "1":
        assert sorted(body) == ["error", "request_id", "status", "success"]
    else:
        assert body["type"] == f"https://api.inference.sh/errors/{code}"
        assert (body["status"], bool(body["title"]), bool(body["detail"])) == (status, True, True)
    if version == "2":
        assert not {"success", "error"} & set(body)
    else:
        assert (body["success"], body["status"], body["error"]["code"]) == (False, status, code)
        assert body["error"]["message"]


def test_every_operation_says_whether_it_needs_a_key():
    assert {one for one in OPERATIONS if not calls.needs_key(one)} <= {"GET /healthz", "GET /instances/types"}
