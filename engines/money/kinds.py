"""What sets one kind of purchase apart from another. How each is sent, and what is believed, is the same for all."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import State, Verb
from engines.models import Operation
from engines.money import amounts, machine, preflight
from engines.money.amounts import PaidTime
from engines.money.models import Evidence, Outcome
from engines.money.record import End


class Contradiction(NamedTuple):
    """What a reading shows although the API said no; `after` is the end of the paid time that it has."""

    words: str
    after: datetime | None = None


class Purchase(ABC):
    """One class per kind."""

    verb: ClassVar[Verb]

    @abstractmethod
    def preflight(self, operation: Operation, client: EnginesClient, begun: datetime) -> PaidTime | End:
        """Compare what was confirmed with what is so now. Return what may be bought, or the end. Raises ApiError."""

    @abstractmethod
    def call(
        self, client: EnginesClient, operation: Operation, paid: PaidTime, arming: Callable[[], None]
    ) -> wire.Engine:
        """Make the one request; `arming` is called when the connection is open."""

    @abstractmethod
    def accepted(self, operation: Operation, dto: wire.Engine, now: datetime) -> End:
        """Say what the API's yes means."""

    @abstractmethod
    def find(self, operation: Operation, client: EnginesClient) -> wire.Engine | None:
        """Read what it is about; None if the API has it not, or not any more. Raises ApiError."""

    @abstractmethod
    def contradiction(self, operation: Operation, dto: wire.Engine | None) -> Contradiction | None:
        """Say what about a reading denies that nothing happened; None if nothing does."""


class Hours(Purchase):
    """More time for an engine."""

    verb = Verb.EXTEND

    def preflight(self, operation: Operation, client: EnginesClient, begun: datetime) -> PaidTime | End:
        return preflight.preflight(operation, client.get(operation.uid), begun)

    def call(
        self, client: EnginesClient, operation: Operation, paid: PaidTime, arming: Callable[[], None]
    ) -> wire.Engine:
        return client.extend(operation.uid, operation.extension.hours, arming)

    def accepted(self, operation: Operation, dto: wire.Engine, now: datetime) -> End:
        paid = amounts.read(dto.get("instance"))
        bought = operation.extension
        if paid is None or bought.before is None:
            return End(State.UNKNOWN, None, "The API accepted it, but did not say until when it is paid. Checking.")
        wanted = amounts.after(bought.before, bought.hours)
        facts: dict[str, Any] = {"evidence": Evidence.ANSWER, "after": paid.threshold}
        if amounts.near(paid.threshold, wanted):
            note = f"Paid until {paid.threshold:%Y-%m-%d %H:%M} UTC."
            return End(State.SUCCEEDED, Outcome.CONFIRMED, note, **facts)
        note = (
            f"Charged, but the new end is {paid.threshold:%Y-%m-%d %H:%M} UTC and not {wanted:%Y-%m-%d %H:%M} UTC. "
            "Ask whoever runs the API."
        )
        return End(State.SUCCEEDED, Outcome.DISCREPANCY, note, **facts)

    def find(self, operation: Operation, client: EnginesClient) -> wire.Engine | None:
        return client.get(operation.uid)

    def contradiction(self, operation: Operation, dto: wire.Engine | None) -> Contradiction | None:
        paid = amounts.read((dto or {}).get("instance"))
        if paid is not None and paid.threshold == operation.extension.before:
            return None
        words = "But a reading shows another end of its paid time than before."
        return Contradiction(words, paid.threshold if paid else None)


class Machine(Purchase):
    """A new machine, with its first hours."""

    verb = Verb.CREATE

    def preflight(self, operation: Operation, client: EnginesClient, begun: datetime) -> PaidTime | End:
        return machine.preflight(operation, client, begun)

    def call(
        self, client: EnginesClient, operation: Operation, paid: PaidTime, arming: Callable[[], None]
    ) -> wire.Engine:
        return client.create(machine.body(operation, paid), str(operation.pk), arming)

    def accepted(self, operation: Operation, dto: wire.Engine, now: datetime) -> End:
        return machine.accepted(operation, dto, now)

    def find(self, operation: Operation, client: EnginesClient) -> wire.Engine | None:
        return machine.find(operation, client)

    def contradiction(self, operation: Operation, dto: wire.Engine | None) -> Contradiction | None:
        return Contradiction(f"But the API lists {operation.engine_name}.") if dto else None


KINDS: dict[str, Purchase] = {each.verb: each for each in (Hours(), Machine())}
