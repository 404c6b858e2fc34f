"""What a verb has to say for itself. All else about operations is the same for every verb."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.workers import workers_of


@dataclass(frozen=True)
class Judgement:
    """What a reading says about an operation: where it stands, why, and how far it is."""

    state: State
    note: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    forgot: bool = False  # the engine, what it had accepted: who asked may have wanted it sent again by itself then


class Retry(NamedTuple):
    """How often one decision of a person may be sent, and whether the engine is read before the first send, too."""

    kind: str
    sends: int
    reads_first: bool = False


LEVEL = "level"  # sets a state that a reading shows: it may be sent again after a reading that does not show it
EDGE = "edge"  # sent twice it happens twice: never again by itself
PAID = "money"  # likewise; only where the API said 429 and a reading shows no effect does it go on (engines/money)

# RELIABILITY 4.1, the only table of it.
RETRY: dict[Verb, Retry] = {
    Verb.DRAIN: Retry(LEVEL, 5),
    Verb.UPDATE: Retry(LEVEL, 2),  # but it restarts the process
    Verb.STOP: Retry(LEVEL, 2, reads_first=True),  # and final
    Verb.RESTART: Retry(EDGE, 1, reads_first=True),
    Verb.RENAME: Retry(LEVEL, 3),
    Verb.DELETE: Retry(LEVEL, 3),  # and final
    Verb.EXTEND: Retry(PAID, 1, reads_first=True),
    Verb.CREATE: Retry(PAID, 1, reads_first=True),
}
# The parameters of what waits, for an engine that is offline or until another operation has ended: for how long it then
# waits for the engine, and its deadline once it is sent; in hours.
PATIENCE, DEADLINE = "patience_hours", "deadline_hours"
INSIST = "insist"  # the parameter of what is sent again by itself if the engine forgets it
# A list may lag behind the answer to the POST by some seconds (RELIABILITY D18).
GRACE = timedelta(seconds=20)


class Behaviour(ABC):
    """One class per verb: what sets it apart, and the words for it."""

    verb: ClassVar[Verb]
    icon: ClassVar[str]
    # What a person agrees to beside the verb itself, of engines.seen: a rename does not depend on what runs.
    matters: ClassVar[tuple[str, ...]] = ()
    is_final: ClassVar[bool] = False  # it cannot be taken back: the engine's name is typed, or who it is confirmed
    for_many: ClassVar[bool] = False  # it can be asked of many engines at once
    most: ClassVar[int] = 10_000  # of so many
    once: ClassVar[bool] = False  # of many it is asked once of each, however many connections list it
    takes: ClassVar[bool] = False  # capacity away
    gives_back: ClassVar[bool] = False  # the capacity, after a while: many can go one after the other
    finishes_tasks: ClassVar[bool] = False  # first, however long they take
    waits: ClassVar[bool] = False  # for an engine that is offline
    needs_wire: ClassVar[bool] = False  # the whole reading, to say of many whether it can be asked of them
    asks: ClassVar[tuple[str, ...]] = ()  # what a form for many has for it beside a reason
    # Conflicts (RELIABILITY 4.1). One operation is open on an engine at a time; a stronger one takes its place.
    supersedes: ClassVar[frozenset[str]] = frozenset()
    # What it does not disturb: a machine may be paid for longer while its engine finishes what it runs.
    beside: ClassVar[frozenset[str]] = frozenset()
    # What it may be queued behind, to be sent when that has ended: one operation on each engine.
    queues_behind: ClassVar[frozenset[str]] = frozenset()

    @property
    def max_sends(self) -> int:
        return RETRY[self.verb].sends

    @property
    def reads_first(self) -> bool:
        return RETRY[self.verb].reads_first

    @abstractmethod
    def refusal(self, engine: Engine) -> str:
        """Why the engine's state forbids it, in words; "" if it does not."""

    @abstractmethod
    def consequences(self, engine: Engine, running: int) -> list[str]:
        """Say what it will do, from what was last read; `running` tasks are on the engine."""

    def parameters(self, engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an operation keeps of the engine as it is now, and of what a form `said`, as JSON."""
        return {}

    def cuts(self, engine: Engine) -> bool:
        """Whether what runs on it may not be finished: then it matters which tasks those are."""
        return False

    def objection(self, operation: Operation, engine: Engine) -> str:
        """Why a fresh reading forbids to send what was asked; "" if it does not."""
        return ""

    @abstractmethod
    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        """Make the one request."""

    def back(self, engine: Engine) -> Judgement:
        """Say whether an engine that was waited for can be asked now."""
        if engine.status == "deleted":
            return Judgement(State.CANCELLED, "The API no longer knows the engine. Nothing was sent.")
        if why_not := self.refusal(engine):
            return Judgement(State.WAITING, why_not)
        return Judgement(State.REQUESTED, "The engine can be asked now. Sending it.")

    @abstractmethod
    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        """Say what the engine's snapshot, read after the send, means for the operation."""


def progress_of(engine: Engine) -> dict[str, object]:
    """Return {"idle", "total", "waiting": [{"task_id", "app", "worker", "since"}]}."""
    workers = workers_of(engine)
    busy = [worker for worker in workers if worker.busy]
    return {
        "idle": len(workers) - len(busy),
        "total": len(workers),
        "waiting": [worker.as_blocker() for worker in busy],
    }


def sent_long_ago(operation: Operation, now: datetime, limit: timedelta) -> bool:
    return operation.sent_at is not None and now - operation.sent_at > limit


def unsettled(operation: Operation, now: datetime, max_sends: int, *, waits: State) -> Judgement:
    """What a reading without the effect means: wait a little, then send again if nobody knows that it was sent."""
    state = State(operation.state)
    if state == State.UNKNOWN and sent_long_ago(operation, now, GRACE):
        if operation.attempts < max_sends:
            return Judgement(State.REQUESTED, "The request did not arrive: nothing of it shows. Sending it again.")
        return Judgement(State.NEEDS_ATTENTION, "Nothing of it shows on the engine. Send it again, or close this.")
    if state == waits and sent_long_ago(operation, now, 3 * GRACE):
        return Judgement(State.NEEDS_ATTENTION, "The API accepted it, but nothing of it shows on the engine.")
    return Judgement(state, operation.note)
