"""Drain: the engine takes nothing new, finishes what runs, and shuts down. Contract 2.1 #7 and 7.1.

A level effect: a reading shows it, so it may be sent again once a reading shows that it did not happen.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import GRACE, INSIST, Behaviour, Judgement, progress_of

FORGOT = (
    "The engine runs and takes tasks again: it forgot the drain, most likely because its process was restarted. "
    "Send the drain again or close this operation."
)
GONE = "The API no longer knows this engine. Nobody saw it finish: look at its tasks, then close this operation."
SILENT = "The engine went silent while it drained. Its tasks are not given up: it goes on when the engine is back."


class Drain(Behaviour):
    verb = Verb.DRAIN
    icon = "drain"
    matters = ("status", "tasks", "ends", "behind")
    for_many = takes = finishes_tasks = waits = True
    asks = (INSIST,)
    queues_behind = frozenset({Verb.UPDATE, Verb.RESTART})  # after both the engine is back

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

    def consequences(self, engine: Engine, running: int) -> list[str]:
        if engine.status == EngineStatus.DISCONNECTED:
            return [
                f"{engine.name} is offline: nothing is sent now. It is looked for every few seconds.",
                "Once it is back, the drain is sent before anything else. A task may still reach it in that moment.",
                "Until then it can be cancelled. If the engine does not come back in time, it ends by itself.",
            ]
        tasks = {0: "Nothing runs on it now", 1: "The one task that runs now is finished first"}
        back = "its machine is restarted" if engine.cloud else "somebody starts it on its host"
        return [
            f"{engine.name} takes no new task once it gets the signal; tasks aimed at it wait or go elsewhere.",
            tasks.get(running, f"The {running} tasks that run now are finished first") + ": nothing is cut.",
            f"Then its process shuts down, and it stays down until {back}.",
            "A drain that was sent cannot be taken back.",
        ]

    def parameters(self, engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
        return {INSIST: True} if said.get(INSIST) else {}

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        return client.drain(operation.uid)

    def back(self, engine: Engine) -> Judgement:
        if engine.status == EngineStatus.DRAINING:
            return Judgement(State.REQUESTED, "The engine drains already. Sending it all the same.")
        if engine.status == EngineStatus.STOPPED:
            return Judgement(State.CANCELLED, "The engine was stopped meanwhile: there is nothing to drain.")
        return super().back(engine)

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
        return Judgement(State.NEEDS_ATTENTION, FORGOT, forgot=True)
