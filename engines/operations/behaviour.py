"""What a verb has to say for itself. All else about operations is the same for every verb."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

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


# How often one decision of a person may be sent (RELIABILITY 4.1). A level effect (a state that a reading shows) may be
# sent again after such a reading; an edge effect never.
SENDS: dict[str, int] = {
    Verb.DRAIN: 5,  # level
    Verb.UPDATE: 2,  # level, but it restarts the process
    Verb.STOP: 2,  # level, and final
    Verb.RESTART: 1,  # edge
    Verb.RENAME: 3,  # level
    Verb.DELETE: 3,  # level, and final
    Verb.EXTEND: 1,  # money; only where the API said 429 and a reading shows no effect does it go on (engines/money)
    Verb.CREATE: 1,  # money, likewise
}
# The parameters of what waits for an engine that is offline: for how long, and then its deadline; in hours.
PATIENCE, DEADLINE = "patience_hours", "deadline_hours"
# A list may lag behind the answer to the POST by some seconds (RELIABILITY D18).
GRACE = timedelta(seconds=20)


class Behaviour(Protocol):
    """One class per verb."""

    max_sends: int
    reads_first: bool  # whether the engine is read before the first send, too

    def refusal(self, engine: Engine) -> str:
        """Why the engine's state forbids it, in words; "" if it does not."""

    def consequences(self, engine: Engine, running: int) -> list[str]:
        """Say what it will do, from what was last read; `running` tasks are on the engine."""

    def objection(self, operation: Operation, engine: Engine) -> str:
        """Why a fresh reading forbids to send what was asked; "" if it does not. Asked only if `reads_first`."""

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        """Make the one request."""

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
