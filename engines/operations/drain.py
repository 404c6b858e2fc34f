"""Drain: the engine takes nothing new, finishes what runs, and shuts down. Contract 2.1 #7 and 7.1.

A level effect: a reading shows it, so it may be sent again once a reading shows that it did not happen.
"""

from datetime import datetime, timedelta

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import EngineStatus, State
from engines.models import Engine, Operation
from engines.operations.behaviour import Judgement
from engines.workers import workers_of

# A list may lag behind the answer to the POST by some seconds (RELIABILITY D18).
GRACE = timedelta(seconds=20)

FORGOT = (
    "The engine runs and takes tasks again: it forgot the drain, most likely because its process was restarted. "
    "Send the drain again or close this operation."
)
GONE = "The API no longer knows this engine. Nobody saw it finish: look at its tasks, then close this operation."
SILENT = "The engine went silent while it drained. Its tasks are not given up: it goes on when the engine is back."


class Drain:
    max_sends = 5

    def refusal(self, engine: Engine) -> str:
        match engine.status:
            case EngineStatus.RUNNING:
                return ""
            case EngineStatus.DISCONNECTED:
                return (
                    "The engine is offline. A drain needs its connection: start the engine, or wait until it is back."
                )
            case EngineStatus.DRAINING:
                return "The engine is draining already."
            case EngineStatus.STOPPED | EngineStatus.STOPPING:
                return f"The engine is {engine.status}: there is nothing to drain."
        return f"The engine is {engine.status}; only a running engine can be drained."

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        return client.drain(operation.engine.uid)

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        progress = progress_of(engine)
        match engine.status:
            case EngineStatus.STOPPED:
                return Judgement(State.SUCCEEDED, "All work is finished and the engine has shut down.", progress)
            case EngineStatus.DRAINING | EngineStatus.STOPPING:
                return Judgement(State.WORKING, "", progress)
            case EngineStatus.DISCONNECTED:
                return Judgement(State.LOST_CONTACT, SILENT)
            case EngineStatus.RUNNING:
                return self._not_draining(operation, now)
            case "deleted":
                return Judgement(State.NEEDS_ATTENTION, GONE)
        return Judgement(State(operation.state), f"The API calls the engine “{engine.status}”.", progress)

    def _not_draining(self, operation: Operation, now: datetime) -> Judgement:
        state = State(operation.state)
        fresh = operation.sent_at is None or now - operation.sent_at < GRACE
        if state in (State.ACCEPTED, State.UNKNOWN) and fresh:
            return Judgement(state, operation.note)
        if state == State.UNKNOWN and operation.attempts < self.max_sends:
            return Judgement(State.REQUESTED, "The request did not arrive: the engine still runs. Sending it again.")
        return Judgement(State.NEEDS_ATTENTION, FORGOT)


def progress_of(engine: Engine) -> dict[str, object]:
    """Return {"idle", "total", "waiting": [{"task_id", "app", "worker", "since"}]}."""
    workers = workers_of(engine)
    busy = [worker for worker in workers if worker.busy]
    return {
        "idle": len(workers) - len(busy),
        "total": len(workers),
        "waiting": [worker.as_blocker() for worker in busy],
    }
