"""POST /engines/register and what an engine looks like afterwards."""

import uuid

import pytest
from django.db import IntegrityError

from engines import wire
from engines.controlplane import connection, schemas
from engines.controlplane.enums import EngineState
from engines.controlplane.models import Engine, Team, Worker
from engines.controlplane.problems import Problem
from engines.controlplane.sessions import Over
from engines.enums import TaskStatus
from tests.controlplane.conftest import Agent, Caller

GPU = {"id": "GPU-7f", "name": "NVIDIA L4", "index": 1, "memory_total": 24 * 1024**3, "driver_version": "550"}
INFO = {"hostname": "rack-1", "engine_version": "v1.2.0", "gpus": [GPU], "cpus": [{"name": "EPYC", "cores": 8}]}


def register(caller, **more):
    state = {"name": "gpu-1", "boot_id": "b1"} | more.pop("state", {})
    return caller.post("/engines/register", {"local_engine_state": state} | more)


def shown(caller, agent):
    return caller.get(f"/engines/{agent.id}").json()


def test_the_first_time_makes_a_pending_engine(caller):
    body = register(caller).json()
    engine = caller.get(f"/engines/{body['engine_id']}").json()
    assert (engine["name"], engine["status"], engine["team_id"] != "") == ("gpu-1", "pending", True)


def test_without_gpus_there_are_two_cpu_workers(caller):
    assert [worker["index"] for worker in register(caller).json()["workers"]] == [0, 1]


def test_each_gpu_entry_is_a_worker_with_its_hardware(caller):
    config = {"gpu": [{"gpus": [1]}, {"gpus": [2, 3]}], "cpu": {"count": 0}}
    first, second = register(caller, system_info=INFO, worker_config=config).json()["workers"]
    known = first["gpus"][0]
    assert (known["name"], known["vram"], known["gpu_id"]) == ("NVIDIA L4", 24 * 1024**3, "GPU-7f")
    assert [gpu["gpu_id"] for gpu in second["gpus"]] == ["2", "3"]


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        ("NVIDIA L4", {}, "nvidia"),
        ("Tesla T4", {}, "nvidia"),
        ("AMD Instinct MI300X", {"driver_version": "6.8"}, "amd"),
        ("Radeon RX 7900 XTX", {}, "amd"),
        ("Intel(R) Arc(TM) A770 Graphics", {}, "intel"),
        ("Apple M3 Max", {}, "apple"),
        ("A100-SXM4-80GB", {"driver_version": "550"}, "nvidia"),
        ("Voodoo 2", {}, "any"),
    ],
)
def test_who_made_a_gpu_is_told_by_its_name(caller, name, more, kind):
    info = {"gpus": [{"id": "0", "index": 0, "name": name, "memory_total": 8 * 10**9, **more}]}
    [worker] = register(caller, system_info=info, worker_config={"gpu": [{"gpus": [0]}]}).json()["workers"]
    assert worker["gpus"][0]["type"] == kind


def test_the_saved_id_refreshes_and_keeps_the_workers_ids(caller):
    body = register(caller).json()
    again = register(caller, state={"id": body["engine_id"], "boot_id": "b2"}, system_info=INFO).json()
    assert again["engine_id"] == body["engine_id"]
    assert [worker["id"] for worker in again["workers"]] == [worker["id"] for worker in body["workers"]]
    assert Engine.objects.get().version == "v1.2.0"


def test_a_worker_that_is_gone_is_retired_and_comes_back_as_itself(caller):
    two = register(caller).json()
    state = {"id": two["engine_id"]}
    one = register(caller, state=state, worker_config={"cpu": {"count": 1}}).json()
    assert len(one["workers"]) == 1
    back = register(caller, state=state, worker_config={"cpu": {"count": 2}}).json()
    assert [worker["id"] for worker in back["workers"]] == [worker["id"] for worker in two["workers"]]


def test_an_unknown_id_and_another_teams_are_alike(caller, outsider, agent):
    answers = [register(caller, state={"id": "eng_none"}), register(outsider, state={"id": agent.id})]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert agent.row.name == "gpu-1"


def test_no_key_is_ever_shown_again(caller):
    config = {"api_key": "inf_secret", "envs": [{"name": "TOKEN", "value": "inf_secret"}], "engine_port": "8163"}
    body = register(caller, state={"config": config}).json()
    answer = caller.get(f"/engines/{body['engine_id']}")
    assert "inf_secret" not in answer.content.decode()
    assert (answer.json()["config"]["api_key"], answer.json()["config"]["engine_port"]) == ("", "8163")
    assert "inf_secret" not in str(Engine.objects.get().config)


def test_hardware_of_any_shape_is_taken(caller):
    info = {"gpus": None, "cpus": "many", "ram": 7, "nul": "a\u0001"}
    assert register(caller, system_info=info, worker_config={"gpu": [{"gpus": [0]}]}).status_code == 200


def test_a_new_process_lets_go_of_the_old_ones_connection(caller, agent):
    agent.boot = "boot-2"
    agent.register(caller)
    assert (agent.row.session, agent.row.status) == (None, "disconnected")


def test_the_same_process_keeps_its_connection(caller, agent):
    agent.register(caller)
    assert agent.row.session == agent.session.id


def test_a_new_process_makes_a_stopped_engine_run(caller, agent):
    Engine.objects.update(state=EngineState.STOPPED)
    agent.boot = "boot-2"
    agent.register(caller)
    assert agent.row.state == EngineState.RUNNING


def test_a_stopped_process_that_registers_again_stays_stopped(caller, agent):
    Engine.objects.update(state=EngineState.STOPPED)
    agent.register(caller)
    assert agent.row.state == EngineState.STOPPED


def test_a_draining_engine_stays_draining_whatever_process_comes(caller, agent):
    caller.post(f"/engines/{agent.id}/drain")
    agent.boot = "boot-2"
    agent.register(caller)
    assert (agent.row.state, agent.row.drain_epoch) == (EngineState.DRAINING, 1)


def test_the_old_process_is_told_that_it_was_replaced(caller, agent):
    agent.register(caller, boot_id="boot-2")
    with pytest.raises(Over) as over:
        agent.due()
    assert over.value.code == wire.CLOSE_REPLACED


def test_another_teams_key_opens_no_socket_of_an_engine(agent, caller, outsider):
    """C6: it is as unknown as an engine that never was."""
    found = [_handshake(agent, who) for who in (outsider, Caller("inf_wrong"), caller)]
    assert found == [404, 401, 200]


def test_a_deleted_engine_whose_process_still_runs_finds_no_socket(caller, agent):
    """It would look as if it took tasks, which then wait for it rather than end."""
    agent.hang_up()
    assert caller.delete(f"/engines/{agent.id}").status_code == 204
    assert _handshake(agent, caller) == 404


@pytest.mark.parametrize("change", ["deleted", "transferred"])
def test_what_becomes_of_an_engine_between_handshake_and_hello_ends_its_connection(caller, outsider, agent, change):
    agent.hang_up()
    if change == "deleted":
        caller.delete(f"/engines/{agent.id}")
    else:
        caller.post(f"/engines/{agent.id}/transfer", {"team_id": Team.objects.get(slug="mallory-inc").pk})
    with pytest.raises(Over, match="no such engine for this key"):
        agent.connect()
    assert agent.row.session is None


def _handshake(agent, who):
    headers = [(b"authorization", f"Bearer {who.key}".encode())]
    scope = {"path": f"/engines/{agent.id}/ws", "headers": headers, "subprotocols": [wire.SUBPROTOCOL]}
    try:
        return 200 if connection._admit(scope).engine_id == agent.id else 0
    except Problem as problem:
        return problem.status


def test_the_old_process_cannot_come_back(caller, agent):
    agent.register(caller, boot_id="boot-2")
    with pytest.raises(Over) as over:
        agent.connect()
    assert over.value.code == wire.CLOSE_REPLACED


# What is shown


def test_the_engine_is_as_described(caller, agent, running):
    schemas.EngineOut.model_validate(shown(caller, agent), strict=False)
    schemas.TaskOut.model_validate(caller.get(f"/tasks/{running.pk}").json())
    assert set(schemas.EngineOut.model_fields) == set(shown(caller, agent))


def test_a_busy_worker_names_its_task(caller, agent, running):
    busy = next(worker for worker in shown(caller, agent)["workers"] if worker["id"] == running.worker_id)
    assert (busy["status"], busy["task_id"], busy["app_id"]) == ("busy", running.pk, "sleep")
    assert sorted(worker["status"] for worker in shown(caller, agent)["workers"]) == ["busy", "idle"]


def test_workers_of_a_lost_engine_are_inactive_and_still_name_their_task(caller, agent, running):
    agent.hang_up()
    engine = shown(caller, agent)
    assert engine["status"] == "disconnected"
    assert {worker["status"] for worker in engine["workers"]} == {"inactive"}
    assert [worker["task_id"] for worker in engine["workers"] if worker["task_id"]] == [running.pk]


@pytest.mark.parametrize(
    ("state", "connected", "status"),
    [
        ("pending", False, "pending"),
        ("running", True, "running"),
        ("running", False, "disconnected"),
        ("draining", True, "draining"),
        ("draining", False, "disconnected"),
        ("stopped", True, "stopped"),
        ("stopped", False, "stopped"),
    ],
)
def test_the_contracts_status(team, state, connected, status):
    session = uuid.uuid4() if connected else None
    engine = Engine.objects.create(team=team, name="x", state=state, session=session, drain_epoch=1)
    assert Engine.objects.get(pk=engine.pk).status == status


# What the database refuses


def test_two_live_tasks_on_one_worker(agent, queue):
    worker = Worker.objects.first()
    queue(status=TaskStatus.RUNNING, engine_id=agent.id, worker=worker)
    with pytest.raises(IntegrityError):
        queue(status=TaskStatus.DISPATCHED, engine_id=agent.id, worker=worker)


def test_a_live_task_without_a_worker(queue):
    with pytest.raises(IntegrityError):
        queue(status=TaskStatus.RUNNING)


@pytest.mark.parametrize("facts", [{"state": "resting"}, {"drained_epoch": 2, "drain_epoch": 1}, {"state": "draining"}])
def test_an_engine_in_a_state_that_cannot_be(team, facts):
    with pytest.raises(IntegrityError):
        Engine.objects.create(team=team, name="x", **facts)


def test_two_engines_may_share_a_name(team, caller):
    first, second = Agent(team), Agent(team)
    first.register(caller)
    second.register(caller)
    assert first.id != second.id
