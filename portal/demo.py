"""`python -m portal.demo URL`: gives the demo fleet small real tasks, so that there is something to see and to drain.

Reads the API key from INFERENCE_API_KEY. Most of the tasks sleep; a few draw or compute for a second or two.
"""

import os
import random
import sys
import time
from typing import Any, NoReturn

import httpx

TURN_SECONDS = 2.0
SHARE = 0.7  # of the workers: some stay idle, so that a new task starts at once
FINISHED = 10  # the contract's first task status that is final

Task = tuple[str, dict[str, Any]]


class Feeder:
    """Keeps tasks running, one new one a turn at most, never more than there are workers."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api
        self._mine: list[str] = []

    def turn(self) -> None:
        """Look at the fleet and give it a task if there is room. Raises httpx.HTTPError."""
        workers, busy = self._capacity()
        self._mine = [task for task in self._mine if self._call("GET", f"/tasks/{task}")["status"] < FINISHED]
        if workers and max(busy, len(self._mine)) < max(1, round(workers * SHARE)):
            app, given = some_task(random.Random())  # noqa: S311  # for show
            self._mine.append(self._call("POST", "/run", json={"app": app, "input": given})["id"])

    def _capacity(self) -> tuple[int, int]:
        """Workers that take tasks, and how many of them have one."""
        engines = self._call("POST", "/engines/list", json={"limit": 100})["items"]
        ready = [engine for engine in engines if engine["status"] == "running"]
        workers = [worker for engine in ready for worker in engine["workers"] or [] if worker]
        return len(workers), sum(1 for worker in workers if worker.get("task_id"))

    def _call(self, method: str, path: str, **more: Any) -> Any:
        return self._api.request(method, path, **more).raise_for_status().json()


def some_task(dice: random.Random) -> Task:
    kind = dice.random()
    if kind < 0.55:
        return "sleep", {"seconds": dice.randint(60, 240)}
    if kind < 0.85:
        return "sleep", {"seconds": dice.randint(8, 45)}
    if kind < 0.93:
        scene = {"x": round(dice.uniform(-0.8, -0.7), 4), "y": round(dice.uniform(0.05, 0.2), 4)}
        return "render", {"width": 160, "height": 120, "zoom": dice.randint(1, 40), **scene}
    return "checksum", {"megabytes": dice.randint(20, 80), "seed": str(dice.randint(1, 9999))}


def main(url: str) -> NoReturn:
    headers = {"Authorization": f"Bearer {os.environ['INFERENCE_API_KEY']}", "X-API-Version": "2"}
    with httpx.Client(base_url=url, headers=headers, timeout=10, trust_env=False) as api:
        feeder = Feeder(api)
        while True:
            try:
                feeder.turn()
            except httpx.HTTPError as error:
                print(f"{time.strftime('%H:%M:%S')} no task given: {error}", flush=True)  # noqa: T201
            time.sleep(TURN_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
