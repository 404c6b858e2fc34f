"""One answer in the contract's three formats (ENGINES_API.md 1.3, 1.6 and 5)."""

import json

import pytest
from django.test import Client

from engines.controlplane import drain


def test_version_1_wraps_the_object(caller):
    body = caller.get("/me", version="1").json()
    assert sorted(body) == ["data", "status", "success"]
    assert (body["success"], body["status"], body["data"]["team"]["username"]) == (True, 200, "acme")


def test_version_2_is_the_bare_object(caller):
    assert caller.get("/me", version="2").json()["team"]["username"] == "acme"


@pytest.mark.parametrize("version", ["", "3", "latest"])
def test_anything_else_is_the_superset(caller, version):
    body = caller.get("/me", version=version).json()
    assert (body["success"], body["status"], body["messages"]) == (True, 200, [])
    assert body["data"]["team"]["username"] == "acme"


def test_version_1_wraps_an_error(caller):
    answer = caller.get("/engines/eng_none", version="1")
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["success"] is False
    assert answer.json()["error"] == {"code": "not_found", "message": "There is no such engine."}


def test_version_2_is_a_problem(caller):
    answer = caller.get("/engines/eng_none", version="2")
    body = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    assert body["type"] == "https://api.inference.sh/errors/not_found"
    assert (body["title"], body["status"], body["detail"]) == ("Not Found", 404, "There is no such engine.")
    assert "success" not in body


def test_an_error_in_the_superset_reads_both_ways(caller):
    answer = caller.get("/engines/eng_none", version="")
    body = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    assert (body["success"], body["error"]["code"], body["detail"]) == (False, "not_found", body["error"]["message"])


@pytest.mark.parametrize("path", ["/me", "/engines/eng_none"])
def test_caches_are_told_that_the_version_matters(caller, path):
    assert "X-API-Version" in caller.get(path)["Vary"]


def test_the_request_id_is_in_the_problem(caller):
    answer = caller.get("/engines/eng_none")
    assert answer.json()["request_id"] == answer["X-Request-ID"] != ""


def test_the_old_prefix_is_stripped(caller):
    assert caller.get("/v1/me").status_code == 200


def test_health_and_description_are_never_wrapped(caller):
    assert caller.get("/healthz", version="1").json() == {"status": "ok"}
    assert caller.get("/openapi.json", version="").json()["openapi"].startswith("3.1")


def test_an_unknown_route_is_a_problem(caller):
    answer = caller.get("/nothing/here")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not_found")


def test_a_wrong_method_is_a_problem_and_names_the_right_one(caller):
    answer = caller.get("/engines/list")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert answer.json()["type"].endswith("/method_not_allowed")


@pytest.mark.parametrize(
    "body", ["{", "[]", '"text"', '{"a": NaN}', '{"a": "\\u0000"}', '{"a": "\\ud800"}', "[" * 9999]
)
def test_a_body_that_is_no_storable_json_object_is_refused(caller, body):
    answer = caller.post("/engines/list", body)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (400, "invalid_request")


def test_a_body_of_a_wrong_shape_names_the_field(caller):
    answer = caller.post("/run", {"app": 7})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "validation_error")
    assert answer.json()["meta"]["fields"][0]["field"] == "app"


@pytest.mark.parametrize("value", ["1e400", "[" * 500 + "]" * 500, "[" * 100_000, "1" + "0" * 5000, "NaN"])
def test_a_body_that_no_database_holds_is_a_400(caller, value):
    state = f'{{"local_engine_state": {{"name": "x"}}, "system_info": {{"ram": {{"total": {value}}}}}}}'
    assert caller.post("/engines/register", state).status_code == 400
    assert caller.get("/engines", filters=value[:9000]).status_code == 400


@pytest.mark.parametrize(
    "name", ["a" * 300, "a/" * 3000, "manifest.json/x", "..%2f..%2f..%2fetc/passwd", "..//etc/passwd"]
)
def test_a_release_that_cannot_be_a_file_is_a_404(caller, name):
    assert caller.get(f"/dist/engine/{name}").status_code == 404


def test_a_large_body_is_refused_before_it_is_read(caller, settings):
    large = json.dumps({"app": "sleep", "input": {"x": "y" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE}})
    answer = caller.post("/run", large)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (413, "payload_too_large")


def test_an_input_that_fits_no_frame_is_refused(caller):
    large = "[" + ",".join(["1e15"] * 60_000) + "]"  # grows when it is written out again
    assert caller.post("/run", f'{{"app": "sleep", "input": {{"x": {large}}}}}').status_code == 413


def test_a_crash_is_a_problem_without_a_word_of_the_cause(caller, agent, monkeypatch):
    def crash(engine_id):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(drain, "request", crash)
    answer = caller.post(f"/engines/{agent.id}/drain")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (500, "internal_error")
    assert "secret" not in answer.content.decode()
    assert "RuntimeError" not in answer.content.decode()


def test_a_nul_in_the_path_names_nothing(caller):
    assert caller.get("/engines/eng_%00").status_code == 404


def test_every_operation_documents_its_answers():
    paths = Client().get("/openapi.json").json()["paths"]
    unusual = ("/healthz", "/engines/{engine_id}/ws")
    protected = [what for path, verbs in paths.items() for what in verbs.values() if path not in unusual]
    wanted = {"400", "401", "403", "404", "409", "413", "422", "429"}
    bare = [what["operationId"] for what in protected if not wanted <= set(what["responses"])]
    assert bare == []
    assert [what["operationId"] for what in protected if not {"200", "204"} & set(what["responses"])] == []


def test_no_two_operations_share_an_id():
    paths = Client().get("/openapi.json").json()["paths"]
    ids = [what["operationId"] for verbs in paths.values() for what in verbs.values()]
    assert len(ids) == len(set(ids))
