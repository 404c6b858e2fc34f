"""Which worker a task may go to, and which of those it goes to."""

import pytest

from engines.controlplane import dispatch, frames
from engines.controlplane.models import Engine, Task, Worker
from tests.controlplane.conftest import Agent

GB = 10**9
A100 = {"type": "nvidia", "gpu_id": "0", "name": "A100", "vram": 80 * GB}


@pytest.fixture
def fleet(team, caller):
    """An engine with a CPU worker, and one with a worker of two A100 and one of one A100."""
    plain, large = Agent(team, name="plain", cpus=1), Agent(team, name="large", cpus=0)
    for agent in (plain, large):
        agent.register(caller)
        agent.connect()
    rows = Engine.objects.get(pk=large.id)
    Worker.objects.filter(engine=rows).delete()
    for index, gpus in enumerate(([A100, A100], [A100])):
        Worker.objects.create(engine=rows, kind="gpu", index=index, gpus=gpus, rams=[{"total": 256 * GB}])
    Worker.objects.filter(engine=plain.id).update(rams=[{"total": 16 * GB}])
    return {"plain": plain, "large": large}


def run(caller, **asked):
    """Queue a task and return the name of the worker that it goes to, "" if none can take it."""
    answer = caller.post("/run", {"app": "sleep", **asked})
    assert answer.status_code == 200, answer.json()
    dispatch.run()
    task = Task.objects.select_related("engine", "worker").get(pk=answer.json()["id"])
    return f"{task.engine.name}-{task.worker.kind}-{task.worker.index}" if task.worker else ""


@pytest.mark.parametrize(
    ("gpu", "worker"),
    [
        ({"type": "nvidia"}, "large-gpu"),
        ({"count": 2}, "large-gpu-0"),
        ({"type": "nvidia", "vram": 100}, "large-gpu-0"),
        ({"vram": 160}, "large-gpu-0"),
        ({"count": 3}, ""),
        ({"type": "amd"}, ""),
        ({"vram": 161}, ""),
        ({"type": "none"}, "plain-cpu-0"),
    ],
)
def test_a_worker_must_have_the_gpus_that_are_needed(caller, fleet, gpu, worker):
    found = run(caller, resources={"gpu": gpu})
    assert found.startswith(worker) if worker else found == ""


@pytest.mark.parametrize(("ram", "worker"), [(16, "plain-cpu-0"), (17, "large-gpu-0"), (300, "")])
def test_a_worker_must_have_the_memory_that_is_needed(caller, fleet, ram, worker):
    assert run(caller, resources={"ram": ram}) == worker


@pytest.mark.parametrize(("size", "expected"), [(80, 80 * GB), (80_000, 80 * GB), (80 * GB, 80 * GB), (0, 0)])
def test_sizes_are_read_as_the_hosted_tools_do(size, expected):
    assert dispatch.needs({"ram": size}).get("ram", 0) == expected


def test_a_task_without_needs_leaves_the_gpus_to_others(caller, fleet):
    assert run(caller) == "plain-cpu-0"
    assert run(caller).startswith("large-gpu")


def test_a_worker_on_which_the_app_is_warm_comes_first(caller, fleet):
    warm = Worker.objects.get(engine=fleet["large"].id, index=1)
    fleet["large"].say(frames.Heartbeat(warm={warm.pk: ["sleep:v0.1.0@0"]}))
    assert run(caller) == "large-gpu-1"


def test_an_app_that_is_warm_with_another_setup_is_not_warm(caller, fleet):
    warm = Worker.objects.get(engine=fleet["large"].id, index=1)
    fleet["large"].say(frames.Heartbeat(warm={warm.pk: ["sleep:v0.1.0@0"]}))
    assert run(caller, setup={"model": "large"}) == "plain-cpu-0"


def test_what_is_warm_is_shown_and_forgotten_when_it_is_not(caller, fleet):
    worker = Worker.objects.get(engine=fleet["plain"].id)
    fleet["plain"].say(frames.Heartbeat(warm={worker.pk: ["sleep:v0.1.0@0"]}))
    assert caller.get(f"/engines/{fleet['plain'].id}").json()["workers"][0]["warm_apps"] == ["sleep:v0.1.0@0"]
    fleet["plain"].say(frames.Heartbeat(warm={}))
    assert caller.get(f"/engines/{fleet['plain'].id}").json()["workers"][0]["warm_apps"] == []


@pytest.mark.parametrize(("infra", "engine"), [("cloud", "rented"), ("private", "gpu-1"), ("private_first", "gpu-1")])
def test_infra_chooses_between_own_and_rented(caller, agent, rented, infra, engine):
    assert run(caller, infra=infra).startswith(engine)


def test_private_first_takes_a_rented_machine_when_the_own_are_busy(caller, agent, rented):
    run(caller, infra="private")
    run(caller, infra="private")
    assert run(caller, infra="private_first").startswith("rented")


def test_the_engines_for_a_need_are_those_that_could_take_it_now(caller, fleet):
    def names(**asked):
        return [engine["name"] for engine in caller.post("/engines/resources", asked or None).json()]

    assert names() == ["large", "plain"]
    assert names(app_ids=["render"]) == ["large", "plain"]
    assert names(gpu={"type": "nvidia"}) == ["large"]
    caller.post(f"/engines/{fleet['large'].id}/drain")
    assert names(gpu={"type": "nvidia"}) == []
