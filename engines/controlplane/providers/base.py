"""What a cloud must be able to do. Prices in cents an hour, memory in GB, times with their zone."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol


class Refused(Exception):
    """The provider said no: nothing was done. The text is for a person."""


class NotNow(Refused):
    """It did not take the call: too many of them, or it was not reached. Nothing was done by this one."""


class Unclear(Exception):
    """No answer that can be relied on: it may have been done or not. Only reading again tells."""


@dataclass(frozen=True)
class Launch:
    """What the engine on the new machine starts with."""

    engine_id: str
    engine_name: str
    api_url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Order:
    """A machine to create. `name` is ours alone, so that `find` can tell whether an unclear order arrived."""

    name: str
    cloud: str
    region: str
    instance_type: str
    launch: Launch
    delete_at: datetime | None = None
    spend_limit: Decimal | None = None  # dollars
    rental_type: str = "on_demand"


@dataclass(frozen=True)
class Machine:
    """A machine as the provider sees it now."""

    id: str
    name: str
    status: str  # InstanceStatus of the contract: creating, pending_provider, pending, active, error, deleting, deleted
    ip: str = ""
    ssh_user: str = ""
    ssh_port: int = 0
    cost: Decimal = Decimal(0)  # dollars so far
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)  # more members of the contract's Instance, as they came


class Provider(Protocol):
    """A cloud. Each call is one request with a bounded wait; each raises Refused or Unclear.

    `create` and `restart` must be sent once. `set_auto_delete` and `delete` say what shall be, so they may be repeated.
    """

    name: str

    def types(self) -> list[dict[str, Any]]:
        """The contract's InstanceType objects that this cloud offers now (ENGINES_API.md 3.7)."""

    def create(self, order: Order) -> str:
        """Order a machine and return its id. It boots on."""

    def find(self, name: str) -> Machine | None:
        """Return the machine that was ordered under this name, None if there is none."""

    def info(self, machine_id: str) -> Machine | None:
        """Return the machine, None once it is gone."""

    def set_auto_delete(self, machine_id: str, delete_at: datetime | None, spend_limit: Decimal | None) -> None:
        """Have the provider delete the machine at this time, or once it has cost this much."""

    def delete(self, machine_id: str) -> None:
        """Begin to delete it. A machine that is gone already is no error."""

    def restart(self, machine_id: str) -> None:
        """Restart the machine, cutting whatever runs on it."""
