"""/openapi.json: what it says of refusals, headers, scopes and streams is what the code does."""

import ast
import json

import pytest

from engines.controlplane import codes, formats, keys
from engines.controlplane.problems import CODES
from tests.controlplane import calls
from tests.controlplane.server import ROOT

SOURCES = sorted((ROOT / "engines" / "controlplane").rglob("*.py"))
OPERATIONS = sorted(calls.operations())
KEYED = [one for one in OPERATIONS if calls.needs_key(one)]


def answers(operation):
    return calls.operations()[operation]["responses"]


def raised():
    """Every status and code that the source spells."""
    found = set(CODES.items())
    for source in SOURCES:
        for call in (node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name in ("Problem", "NotBegun") and all(isinstance(each, ast.Constant) for each in call.args[:2]):
                found.add((call.args[0].value, call.args[1].value))
    return found


def test_every_refusal_in_the_source_has_an_example_and_an_operation():
    socket = calls.described()["paths"]["/engines/{engine_id}/ws"]["get"]["responses"]
    of_socket = {
        (int(status), code)
        for status, answer in socket.items()
        for code in answer.get("content", {}).get("application/json", {}).get("examples", ())
    }
    described = of_socket.union(*(calls.codes(one) for one in OPERATIONS))
    assert raised() == set(codes.EXAMPLES) == described


def test_every_operation_in_the_table_is_one():
    names = {what["operationId"] for what in calls.operations().values()}
    assert set(codes.OWN) <= {*names, "engine_socket"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_examples_of_a_refusal_are_what_is_sent(operation):
    examples = calls.described()["components"]["examples"]
    for status, answer in answers(operation).items():
        for kind, media in answer["content"].items() if int(status) >= 400 else ():
            for code, given in media["examples"].items():
                value = examples[given["$ref"].rpartition("/")[2]]["value"]
                version = "1" if kind == "application/json" else "2"
                sent, sent_as = formats.failure(version, codes.example(int(status), code), value["request_id"])
                assert (value, kind) == (json.loads(sent), sent_as)


def test_a_lacking_scope_and_money_say_what_is_needed():
    examples = calls.described()["components"]["examples"]
    assert examples["403_insufficient_scope"]["value"]["meta"] == {"required_scope": "engines:write"}
    assert examples["402_payment_required_v1"]["value"]["error"]["meta"]["needed_microcents"] == 480_000_000


@pytest.mark.parametrize("operation", KEYED)
def test_each_operation_names_its_scope(operation):
    [security] = calls.operations()[operation]["security"]
    assert set(next(iter(security.values()))) <= set(keys.SCOPES)
    assert security["Bearer"] or operation in ("GET /me", "GET /teams", "GET /scopes")


def test_an_idempotency_key_is_described_for_all_that_changes_and_for_nothing_else():
    reading = ("/list", "/resources")
    changing = {one for one in OPERATIONS if not one.startswith("GET ") and not one.endswith(reading)}
    taking = {
        one
        for one, what in calls.operations().items()
        if any(each["name"] == "Idempotency-Key" for each in what.get("parameters", ()))
    }
    assert taking == changing


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_answer_says_which_headers_it_has(operation):
    known = calls.described()["components"]["headers"]
    for status, answer in answers(operation).items():
        assert "X-Request-ID" in answer["headers"]
        assert set(answer["headers"]) <= set(known)
        assert status != "429" or "Retry-After" in answer["headers"]


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if calls.is_stream(one)])
def test_a_stream_has_an_example_of_each_form(operation):
    content = answers(operation)["200"]["content"]
    events = content["text/event-stream"]["example"].split("\n\n")
    data = [part.partition("data: ")[2] for part in events if "data: " in part]
    lines = [json.loads(line) for line in content["application/x-ndjson"]["example"].splitlines()]
    assert [json.loads(each) for each in data] == [line.get("data", line) for line in lines if line.get("type") is None]
    assert ": heartbeat" in events
    assert {"type": "heartbeat"} in lines


def test_the_socket_says_how_it_refuses():
    socket = calls.described()["paths"]["/engines/{engine_id}/ws"]["get"]
    assert {"101", "400", "401", "403", "404", "429", "500"} == set(socket["responses"])
    assert {"insufficient_scope", "forbidden"} <= set(
        socket["responses"]["403"]["content"]["application/problem+json"]["examples"]
    )


@pytest.mark.parametrize("operation", KEYED)
def test_a_key_without_the_scope_is_told_which_one(operation, scene):
    [security] = calls.operations()[operation]["security"]
    if not security["Bearer"]:
        scene.caller.key = keys.issue(scene.team, "next to nothing", ["billing:read"])[1]
        assert scene.call(operation).status_code == 200
        return
    [scope] = security["Bearer"]
    other = "billing:read" if scope != "billing:read" else "tasks:read"
    scene.caller.key = keys.issue(scene.team, "another", [other])[1]
    answer = scene.call(operation)
    assert (answer.status_code, answer.json()["meta"]) == (403, {"required_scope": scope})


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if "{" in one])
def test_what_belongs_to_another_team_is_unknown(operation, scene, outsider):
    scene.caller = outsider
    answer = scene.call(operation)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not_found")


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if (409, "outcome_unknown") in calls.codes(one)])
def test_a_request_that_is_sent_again_under_its_key_is_answered_as_the_first_time(operation, scene):
    sent = scene.prepared(operation)
    first, again = (scene.send(*sent, Idempotency_Key="k1") for _ in range(2))
    assert first.status_code < 300, first.content
    if operation == "POST /apikeys":
        assert (again.status_code, again.json()["type"].rpartition("/")[2]) == (409, "shown_once")
        return
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Idempotent-Replayed"] == "true"
