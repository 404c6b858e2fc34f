"""The official Python SDK against this server and a real engine: it has no engine methods, but runs tasks."""

import inferencesh.types as official
import pytest
from inferencesh import Inference
from inferencesh.models.errors import APIError

from tests.controlplane.official import check

pytestmark = pytest.mark.processes

COMPLETED, CANCELLED = 10, 12


@pytest.fixture
def client(server, engine):
    return Inference(api_key=server.key, base_url=server.url)


def test_a_real_engine_is_of_its_type(server, engine):
    check(official.EngineDTO, server.http.get(f"/engines/{engine['id']}").content)


def sleep(seconds):
    return {"app": "sleep", "input": {"seconds": seconds}}


def test_it_runs_a_task_and_waits_for_its_output(client):
    task = client.run(sleep(0.5))
    assert (task["status"], task["output"]["seconds"]) == (COMPLETED, 0.5)


def test_it_sees_every_change_of_a_task(client):
    told = [update["status"] for update in client.run(sleep(0.5), stream=True)]
    assert told == sorted(told)
    assert told[-1] == COMPLETED


def test_a_failed_task_says_why(client):
    with pytest.raises(RuntimeError, match="seconds must be a number"):
        client.run(sleep("many"))


def test_a_cancelled_task_ends_its_stream(client):
    task = client.run(sleep(600), wait=False)
    stream = iter(client.stream_task(task["id"]))
    next(stream)
    client.cancel(task["id"])
    with pytest.raises(RuntimeError, match="task cancelled"):
        list(stream)
    assert client.get_task(task["id"]).data["status"] == CANCELLED


def test_input_may_be_missing(client):
    assert client.run({"app": "checksum"}, wait=False)["input"] == {}


def test_a_refusal_is_readable(client):
    with pytest.raises(APIError, match="no such task") as error:
        client.get_task("task_none")
    assert error.value.status_code == 404
