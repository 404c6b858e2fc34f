"""Answers are what the official Python package says they are, for every operation that it has a type for."""

import inferencesh.types as official
import pytest
from pydantic import ValidationError

from tests.controlplane import calls
from tests.controlplane.official import check, page

NONE = "the package has no type for it"

TYPES = {
    "GET /engines": page(official.EngineDTO),
    "POST /engines/list": page(official.EngineDTO),
    "POST /engines": official.EngineDTO,
    "GET /engines/releases": official.EngineReleasesResponse,
    "POST /engines/resources": list[official.EngineDTO],
    "GET /engines/{engine_id}": official.EngineDTO,
    "POST /engines/{engine_id}": official.EngineDTO,
    "POST /engines/{engine_id}/visibility": official.EngineDTO,
    "POST /engines/{engine_id}/drain": official.EngineDTO,
    "POST /engines/{engine_id}/update": official.EngineDTO,
    "POST /engines/{engine_id}/extend": official.EngineDTO,
    "POST /engines/{engine_id}/stop": official.EngineDTO,
    "POST /engines/{engine_id}/restart": official.EngineDTO,
    "POST /engines/{engine_id}/transfer": official.EngineDTO,
    "POST /run": official.TaskDTO,
    "POST /apps/run": official.TaskDTO,
    "POST /tasks/list": page(official.TaskDTO),
    "GET /tasks/{task_id}": official.TaskDTO,
    "GET /tasks/{task_id}/status": official.ResourceStatusDTO,
    "GET /tasks/{task_id}/logs": official.TaskLogsDTO,
    "GET /tasks/{task_id}/timings": official.TaskTimingsDTO,
    "POST /tasks/{task_id}/cancel": official.TaskDTO,
    "POST /apikeys": official.ApiKeyDTO,
    "POST /apikeys/list": page(official.ApiKeyDTO),
    "GET /scopes": official.ScopesResponse,
    "GET /instances/types": list[official.InstanceTypeDTO],
    "GET /healthz": NONE,
    "GET /me": NONE,
    "GET /teams": NONE,
    "GET /billing": NONE,
    "GET /billing/balance": NONE,
    "POST /billing/transactions/list": NONE,
    "POST /engines/register": NONE,
    "DELETE /engines/{engine_id}": NONE,
    "DELETE /apikeys/{key_id}": NONE,
}
STREAMS = {
    "GET /engines/{engine_id}/stream": official.EngineDTO,
    "GET /tasks/{task_id}/stream": official.TaskDTO,
    "GET /events": NONE,
}


@pytest.mark.parametrize("operation", sorted(one for one, hint in TYPES.items() if hint is not NONE))
def test_the_answer_is_of_the_official_type(scene, operation):
    answer = scene.call(operation)
    assert answer.status_code == 200, answer.content
    check(TYPES[operation], answer.content)


# Other threads read for a stream: what the test wrote must be committed.
@pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])
@pytest.mark.parametrize("operation", sorted(one for one, hint in STREAMS.items() if hint is not NONE))
def test_what_is_streamed_is_of_the_official_type(scene, operation):
    event = calls.first(scene.call(operation))
    check(STREAMS[operation], event.removeprefix("data: "))


def test_the_run_of_newer_servers_is_there_too(scene):
    check(official.TaskResultDTO, scene.call("POST /apps/run").content)


def test_every_operation_has_an_official_type_or_none():
    assert {**TYPES, **STREAMS}.keys() == calls.operations().keys()


def test_a_missing_member_is_noticed():
    with pytest.raises(ValidationError, match=r"release_date\n *Field required"):
        check(official.EngineReleasesResponse, '{"stable": {"version": "v1.0.0"}}')


def test_a_member_of_a_wrong_type_is_noticed():
    with pytest.raises(ValidationError, match=r"stable\.version"):
        check(official.EngineReleasesResponse, '{"stable": {"version": 1, "release_date": ""}}')
