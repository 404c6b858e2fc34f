"""A cloud on this machine: it boots real engine processes.

The provider only writes down what shall be. A host process (local_host.py) carries it out, so that machines live on
while the API restarts.
"""

import os
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from engines.controlplane.providers.base import Machine, Order, Refused, Unclear
from engines.controlplane.providers.local_folder import Folder, Place, Wanted, now

REGION = "here"
BOOT_SECONDS = 3.0
NO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Kind:
    """An instance type: cents an hour, and the workers that its engine gets."""

    hourly_price: int
    cpus: int = 0
    gpus: int = 0

    def workers(self) -> dict[str, Any]:
        return {"cpu": {"count": self.cpus}, "gpu": [{"gpus": [index]} for index in range(self.gpus)]}


KINDS = {
    "cpu-1": Kind(60, cpus=1),
    "cpu-2": Kind(120, cpus=2),
    "cpu-4": Kind(250, cpus=4),
}


class LocalCloud:
    """Machines of `folder`. `command` starts an engine; by default the one in this source tree.

    `{engine}` in it stands for a file that is the machine's own, copied from `image` when it boots: an engine that is
    one file can then be updated without the others.
    """

    name = "local"

    def __init__(
        self, folder: Path, command: Sequence[str] = (), *, image: str = "", boot_seconds: float | None = None
    ) -> None:
        self._folder = Folder(folder)
        self._image = image
        self._command = list(command) or [sys.executable, "-m", "engines.agent"]
        given = os.environ.get("LOCAL_CLOUD_BOOT_SECONDS") or BOOT_SECONDS
        self._boot_seconds = float(given) if boot_seconds is None else boot_seconds

    def __repr__(self) -> str:
        return f"LocalCloud({self._folder.path})"

    def types(self) -> list[dict[str, Any]]:
        self._fail_first("types")
        return [self._offer(name, kind) for name, kind in kinds().items()]

    def create(self, order: Order) -> str:
        kind = kinds().get(order.instance_type)
        if kind is None or (order.cloud, order.region, order.rental_type) != (self.name, REGION, "on_demand"):
            raise Refused("The local cloud does not offer that; nothing was ordered.")
        wanted = Wanted(
            id=uuid.uuid4().hex,
            name=order.name,
            instance_type=order.instance_type,
            hourly_price=kind.hourly_price,
            boot_seconds=self._boot_seconds,
            engine_id=order.launch.engine_id,
            engine_name=order.launch.engine_name,
            api_url=order.launch.api_url,
            command=self._command,
            image=self._image,
            created_at=now().isoformat(),
            **_limits(order.delete_at, order.spend_limit),
        )
        lost = self._fail_first("create")
        try:
            self._folder.add(wanted, order.launch.api_key, {"workers": kind.workers()})
        except OSError as error:
            raise Refused(f"The local cloud has no room ({error.strerror}); nothing was ordered.") from None
        _fail_last(lost)
        return wanted.id

    def find(self, name: str) -> Machine | None:
        self._fail_first("find")
        found = [machine for place in self._folder.places() if (machine := self._machine(place.id))]
        found = [machine for machine in found if machine.name == name]
        # One that is going is the answer only if there is no other under this name.
        return min(found, key=lambda machine: machine.status == "deleting", default=None)

    def info(self, machine_id: str) -> Machine | None:
        self._fail_first("info")
        return self._machine(machine_id)

    def set_auto_delete(self, machine_id: str, delete_at: datetime | None, spend_limit: Decimal | None) -> None:
        limits = _limits(delete_at, spend_limit)
        lost = self._fail_first("set_auto_delete")
        with self._folder.lock():
            place, wanted = self._existing(machine_id)
            place.want(replace(wanted, **limits))
        _fail_last(lost)

    def delete(self, machine_id: str) -> None:
        lost = self._fail_first("delete")
        with self._folder.lock():
            place = self._folder.place(machine_id)
            wanted = place.wanted() if place else None
            if place and wanted and not wanted.deleting:
                place.want(replace(wanted, deleting=True))
        _fail_last(lost)

    def restart(self, machine_id: str) -> None:
        lost = self._fail_first("restart")
        with self._folder.lock():
            place, wanted = self._existing(machine_id)
            if place.seen().state != "active":
                raise Refused("The machine is not active; it was not restarted.")
            place.want(replace(wanted, restarts=wanted.restarts + 1))
        _fail_last(lost)

    def _existing(self, machine_id: str) -> tuple[Place, Wanted]:
        """Return a machine that has a future. Raises Refused."""
        place = self._folder.place(machine_id)
        wanted = place.wanted() if place else None
        if place is None or wanted is None:
            raise Refused("The local cloud has no such machine.")
        if wanted.deleting or place.seen().deleting:
            raise Refused("The machine is being deleted.")
        return place, wanted

    def _machine(self, machine_id: str) -> Machine | None:
        place = self._folder.place(machine_id)
        wanted = place.wanted() if place else None
        if place is None or wanted is None:
            return None
        seen = place.seen()
        if self._folder.is_gone(machine_id):  # by now; then what was read may be a part of it
            return None
        deleting = wanted.deleting or seen.deleting
        return Machine(
            id=wanted.id,
            name=wanted.name,
            status="deleting" if deleting else seen.state,
            ip="127.0.0.1" if seen.state == "active" else "",
            cost=seen.cost(wanted.hourly_price, now()),
            error=seen.error,
            facts=_facts(wanted, seen.active_at),
        )

    def _offer(self, name: str, kind: Kind) -> dict[str, Any]:
        return {
            "id": f"{self.name}.{name}",
            "cloud": self.name,
            "region": REGION,
            "shade_instance_type": name,
            "cloud_instance_type": "this machine",
            "deployment_type": "baremetal",
            "rental_type": "on_demand",
            "hourly_price": kind.hourly_price,
            "configuration": {**_configuration(kind.gpus), "os_options": [platform.system().lower()]},
            "availability": [{"region": REGION, "available": True, "rental_type": "on_demand"}],
            "boot_time": {"average_seconds": round(self._boot_seconds), "updated_at": NO_TIME, "sample_size": 0},
        }

    def _fail_first(self, operation: str) -> str:
        """Fail as faults.json says, before anything is done; return what is left to fail with afterwards."""
        fault = self._folder.fault(operation)
        if fault == "refuse":
            raise Refused(f"The local cloud refuses: faults.json has it so for {operation}.")
        if fault == "unclear":
            raise Unclear(f"The local cloud gives no answer: faults.json has it so for {operation}.")
        return fault


def _fail_last(fault: str) -> None:
    if fault == "unclear_done":
        raise Unclear("The local cloud's answer is lost: faults.json has it so.")


def kinds() -> dict[str, Kind]:
    """The instance types of this machine, one with GPUs only if there are any."""
    gpus = len(_gpus())
    return {**KINDS, **({f"gpu-{gpus}": Kind(400 * gpus, gpus=gpus)} if gpus else {})}


def _limits(delete_at: datetime | None, spend_limit: Decimal | None) -> dict[str, Any]:
    if delete_at is not None and delete_at.tzinfo is None:
        raise ValueError("a time to delete a machine needs its zone")
    return {
        "delete_at": None if delete_at is None else delete_at.isoformat(),
        "spend_limit": None if spend_limit is None else format(spend_limit, "f"),
    }


def _facts(wanted: Wanted, active_at: str | None) -> dict[str, Any]:
    limits = {"date_threshold": wanted.delete_at, "spend_threshold": wanted.spend_limit}
    kind = kinds().get(wanted.instance_type, Kind(wanted.hourly_price))
    return {
        "cloud": LocalCloud.name,
        "region": REGION,
        "shade_instance_type": wanted.instance_type,
        "cloud_instance_type": "this machine",
        "cloud_assigned_id": wanted.id,
        "shade_cloud": False,
        "hourly_price": wanted.hourly_price,
        "rental_type": "on_demand",
        "configuration": {**_configuration(kind.gpus), "os": platform.system().lower()},
        "auto_delete": {name: value for name, value in limits.items() if value is not None},
        "created_at": wanted.created_at,
        "active_at": active_at,
    }


@cache
def _configuration(gpus: int) -> dict[str, Any]:
    """What this machine has: every type gets all of it, and shares it."""
    names = _gpus()[:gpus]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "gpu_type": names[0][0] if names else "none",
        "gpu_manufacturer": "nvidia" if names else "",
        "interconnect": "",
        "memory_in_gb": round(memory / 1024**3),
        "num_gpus": gpus,
        "nvlink": False,
        "storage_in_gb": round(shutil.disk_usage("/").total / 1024**3),
        "vcpus": os.cpu_count() or 1,
        "vram_per_gpu_in_gb": names[0][1] if names else 0,
    }


@cache
def _gpus() -> list[tuple[str, int]]:
    """Name and memory (GB) of each GPU, as nvidia-smi lists them; none without it. Asked once a process."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        lines = [line.rpartition(",") for line in told.strip().splitlines()]
        return [(name.strip(), round(float(memory) / 1024)) for name, _, memory in lines]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
