"""The process that gives the demo fleet its tasks."""

import json
import random

import httpx
import pytest

from portal.demo import Feeder, some_task


class Fleet:
    """Answers as the control plane would: engines with workers, and tasks that never end unless told so."""

    def __init__(self, *workers, status="running"):
        self.engines = [{"status": status, "workers": [{"task_id": task} for task in workers]}]
        self.given = []
        self.status = 7

    def __call__(self, request):
        if request.url.path == "/engines/list":
            return httpx.Response(200, json={"items": self.engines})
        if request.url.path == "/run":
            self.given.append(json.loads(request.content))
            return httpx.Response(200, json={"id": f"task_{len(self.given)}", "status": 2})
        return httpx.Response(200, json={"status": self.status})


@pytest.fixture
def feed():
    """Run some turns against a fleet and return how many tasks it was given."""

    def turns(fleet, times=1):
        with httpx.Client(base_url="http://api", transport=httpx.MockTransport(fleet)) as api:
            feeder = Feeder(api)
            for _ in range(times):
                feeder.turn()
        return len(fleet.given)

    return turns


def test_an_idle_fleet_gets_one_task_a_turn(feed):
    assert feed(Fleet(None, None, None, None), times=2) == 2


def test_some_workers_stay_idle(feed):
    assert feed(Fleet("a", "b", "c", None)) == 0


def test_what_waits_counts_too(feed):
    assert feed(Fleet(None, None, None, None), times=9) == 3


def test_a_finished_task_makes_room(feed):
    fleet = Fleet(None)
    fleet.status = 10
    assert feed(fleet, times=3) == 3


def test_a_draining_engine_is_left_alone(feed):
    assert feed(Fleet(None, None, status="draining")) == 0


def test_an_empty_fleet_gets_nothing(feed):
    assert feed(Fleet()) == 0


def test_a_refusal_is_raised(feed):
    with pytest.raises(httpx.HTTPStatusError):
        feed(lambda request: httpx.Response(401))


def test_its_tasks_are_ones_that_the_engine_runs():
    assert {some_task(random.Random(seed))[0] for seed in range(200)} == {"sleep", "render", "checksum"}
