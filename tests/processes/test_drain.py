"""Nothing is lost and nothing runs twice, whatever is killed meanwhile."""

import re
import time
from collections import Counter

import pytest

from tests.harness import FINISHED, drain, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

COMPLETED = 10
TASKS = 200
FLEET = ("north", "east", "south", "west")


def taken(log):
    """The ids of the tasks that an engine took, in order."""
    return re.findall(r"task (\S+) taken", log)


@pytest.fixture(scope="module")
def after_the_storm(stack):
    """200 tasks over four engines; one is drained, and the control plane is killed under way."""
    uids = {name: stack.engine(name, cpus=3) for name in FLEET}
    # Named: another test's engine may still be there, and would take some.
    workers = [f"{name}-cpu-{number}" for name in FLEET for number in range(3)]
    with stack.api() as api:
        tasks = [
            api.post("/run", json=sleep(0.3 + number % 5 / 5, workers)).raise_for_status().json()["id"]
            for number in range(TASKS)
        ]
        wait_for(lambda: len(taken(stack.log("north"))) >= 5, 60, "five tasks taken by north")
        api.post(f"/engines/{uids['north']}/drain").raise_for_status()
    stack.kill("controlplane")
    stack.start("controlplane")
    ended = wait_for(lambda: all_ended(stack, tasks), 180, "end of all tasks")
    code = stack.ended("north")
    return {
        "tasks": tasks,
        "ended": ended,
        "logs": {name: stack.log(name) for name in FLEET},
        "code": code,
    }


def sleep(seconds, workers):
    return {"app": "sleep", "input": {"seconds": seconds}, "workers": workers}


def all_ended(stack, tasks):
    """The final state of all tasks, or None while one is open."""
    with stack.api() as api:
        found = []
        for task in tasks:
            found.append(api.get(f"/tasks/{task}").raise_for_status().json())
            if found[-1]["status"] < FINISHED:
                return None
    return found


def test_no_task_is_lost(after_the_storm):
    assert Counter(task["status"] for task in after_the_storm["ended"]) == {COMPLETED: TASKS}


def test_no_task_runs_twice(after_the_storm):
    starts = Counter(task for log in after_the_storm["logs"].values() for task in taken(log))
    assert {task for task, times in starts.items() if times != 1} == set()
    assert set(starts) == set(after_the_storm["tasks"])


def test_the_drained_engine_takes_nothing_after_it_was_told(after_the_storm):
    told = after_the_storm["logs"]["north"].split("drain asked", 1)
    assert len(told) == 2
    assert taken(told[1]) == []


def test_the_others_took_what_was_left(after_the_storm):
    assert all(taken(after_the_storm["logs"][name]) for name in FLEET)


def test_the_drained_engine_ended_well(after_the_storm):
    assert after_the_storm["code"] == 0


def test_a_drain_is_watched_again_soon_after_its_worker_was_killed(stack):
    uid = stack.engine("watched", cpus=1)
    task = stack.run(on="watched", seconds=60)
    browser = stack.sign_in("admin@demo.example")
    stack.in_the_portal(uid)
    operation = drain(browser, uid, "a worker is killed under way")
    wait_for(lambda: "In progress" in browser.get(operation).text, 20, "drain in progress")
    stack.kill("worker")
    killed, before = time.monotonic(), looked_at(stack)
    stack.start("worker")
    wait_for(lambda: looked_at(stack) != before, killed + 20 - time.monotonic(), "new reading of the fleet")
    with stack.api() as api:
        api.post(f"/tasks/{task}/cancel").raise_for_status()
    wait_for(lambda: "Succeeded" in browser.get(operation).text, 90, "end of the drain")
    assert stack.ended("watched") == 0


def looked_at(stack):
    return stack.query("SELECT refresh_due_at FROM vault_connection")
