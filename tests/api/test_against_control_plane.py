"""The contract suite against our own control plane, with real engines: what holds for one API holds for the other."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from engines.api.client import EnginesClient
from portal import services, up
from tests.api.contract import ContractSuite, Key
from tests.api.standin import Api
from tests.harness import FINISHED, place, wait_for

pytestmark = pytest.mark.processes

ASLEEP = 3  # engines that registered and never connected
KEYS = {
    "all": ("all", "engines:read,engines:write,tasks:read,tasks:write"),
    "reader": ("reader", "engines:read"),
}


@dataclass
class Plane:
    """A running control plane, its keys, and how to reach it past our client."""

    url: str
    keys: dict[str, str]

    def post(self, path: str, body: object) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.keys['all']}", "X-API-Version": "2"}
        answer = httpx.post(self.url + path, json=body, headers=headers, trust_env=False, timeout=15)
        return answer.raise_for_status().json()

    def client(self, key: str = "all") -> EnginesClient:
        return EnginesClient(base_url=self.url, key=Key(self.keys[key]))

    def register(self, name: str) -> str:
        state = {"id": "", "name": name, "boot_id": f"boot-{name}", "config": {}, "public_key": ""}
        hardware = {"gpu": [], "cpu": {"count": 1}}
        body = {"local_engine_state": state, "api_url": self.url, "system_info": {}, "worker_config": hardware}
        return self.post("/engines/register", body)["engine_id"]

    def running(self, name: str) -> str:
        with self.client() as client:
            items = client.list()["items"]
        return next((item["id"] for item in items if (item["name"], item["status"]) == (name, "running")), "")


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    with place() as here:
        site = up.Site(here)
        try:
            up.prepare(here, time.sleep)
            for spec in (services.broker(here), services.control_plane(here)):
                up.wait_until_ready(site.launch(spec), time.sleep)
            keys = up.make_keys(here, KEYS, time.sleep)
            for name in ("one", "two"):
                site.launch(services.engine(here, name, 2, keys["all"]))
            yield Plane(here.api_url, keys)
        finally:
            site.stop()


@pytest.fixture(scope="module")
def api(plane: Plane) -> Api:
    asleep = [plane.register(f"asleep-{number}") for number in range(ASLEEP)]
    one, two = (wait_for(lambda name=name: plane.running(name), 20, f"{name} running") for name in ("one", "two"))
    return Api(plane.url, plane.keys["all"], plane.keys["reader"], one, two, asleep[0], total=ASLEEP + 2)


class TestOurClientWithOurControlPlane(ContractSuite):
    def test_a_task_is_read_with_its_result(self, api: Api, plane: Plane) -> None:
        uid = plane.post("/run", {"app": "sleep", "input": {"seconds": 0.1}})["id"]
        with plane.client() as client:
            task = wait_for(lambda: (found := client.task(uid))["status"] >= FINISHED and found, 20, "the task's end")
        assert task["status"] == FINISHED

    def test_workers_of_a_running_engine_are_listed(self, api: Api, plane: Plane) -> None:
        with plane.client() as client:
            assert len(client.get(api.running)["workers"]) == 2

    def test_every_engine_is_reached_one_by_one(self, api: Api, plane: Plane) -> None:
        with plane.client() as client:
            assert sum(len(page["items"]) for page in client.all(limit=1)) == api.total
