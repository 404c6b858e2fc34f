"""Stop: finish what runs, end, and give a cloud machine back. An engine that is offline is stopped at once, for good.

Contract 2.1 #10 and 7.1. A level effect, but a final one: it is read before it is sent, and not sent to an engine that
went offline since a person agreed to it.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import GRACE, Behaviour, Judgement, progress_of, unsettled
from engines.wire import moment

OFFLINE_NOW = (
    "The engine went offline before this was sent, and an engine that is offline is stopped at once, with what may "
    "still run on it. Nothing was sent: look at it, and ask anew if that is what you want."
)
BACK = (
    "The engine runs and takes tasks again: it was started anew before it was seen stopped, or it forgot the stop. "
    "Stop it again or close this operation."
)
GIVEN_BACK = ("deleting", "deleted")  # a machine that costs nothing any more, contract 3.9
KEPT = "The engine is stopped, but its rented machine is still there and goes on costing."
GIVING_BACK = 3 * GRACE  # for an API that is still giving the machine back, since the engine was seen stopped
UNDER_WAY = (State.WORKING, State.LOST_CONTACT, State.STUCK)
SILENT = (
    "The engine went silent while it finished its tasks. They are not given up: it goes on when the engine is back."
)


class Stop(Behaviour):
    verb = Verb.STOP
    icon = "player-stop"
    matters = ("status", "tasks", "cut", "ends", "replaces")
    is_final = for_many = takes = finishes_tasks = True
    supersedes = frozenset({Verb.DRAIN, Verb.UPDATE})

    def refusal(self, engine: Engine) -> str:
        match engine.status:
            case EngineStatus.STOPPING:
                return "The engine is stopping already."
            case EngineStatus.STOPPED if not engine.cloud:
                return "The engine is stopped."
            case "deleted":
                return "The API no longer knows this engine."
        return ""

    def consequences(self, engine: Engine, running: int) -> list[str]:
        if self.cuts(engine):
            said = [
                f"{engine.name} is offline: it is stopped at once and cannot be asked to finish anything.",
                "Tasks that still run on it fail, or run again elsewhere if they asked for that.",
            ]
        else:
            finished = {0: "Nothing runs on it now.", 1: "The one task that runs now is finished first."}
            stays = "" if engine.cloud else ", and it stays down until somebody starts it on its host"
            said = [
                f"{engine.name} takes no new task from the moment it gets the signal.",
                finished.get(running, f"The {running} tasks that run now are finished first."),
                f"Then its process ends{stays}.",
            ]
        if engine.cloud:
            said.append("Its rented machine is given back. Paid time that is left is not paid back.")
        return said

    def parameters(self, engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
        return {"online": not self.cuts(engine)}

    def cuts(self, engine: Engine) -> bool:
        return engine.status == EngineStatus.DISCONNECTED

    def objection(self, operation: Operation, engine: Engine) -> str:
        return OFFLINE_NOW if self.cuts(engine) and operation.parameters.get("online") else ""

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        # Between the reading and this it may have gone offline: an API that can leaves it alone then.
        return client.stop(operation.uid, only_if_connected=bool(operation.parameters.get("online")))

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        ended = engine.status == EngineStatus.STOPPING or bool(operation.progress.get("ended"))
        progress = {**progress_of(engine), "ended": ended}
        match engine.status:
            case EngineStatus.STOPPED if _costs(engine) and not ended:
                return self._kept(operation, progress, now)
            case EngineStatus.STOPPED:
                return Judgement(State.SUCCEEDED, "The engine has stopped.", progress)
            case "deleted":
                return Judgement(State.SUCCEEDED, "The engine is gone.", progress)
            case EngineStatus.STOPPING | EngineStatus.DRAINING:
                return Judgement(State.WORKING, "", progress)
            case EngineStatus.DISCONNECTED if operation.parameters.get("online"):
                return Judgement(State.LOST_CONTACT, SILENT, progress)
            case EngineStatus.RUNNING if operation.state in (State.WORKING, State.LOST_CONTACT):
                return Judgement(State.NEEDS_ATTENTION, BACK, progress)
        return unsettled(operation, now, self.max_sends, waits=State.ACCEPTED)

    def _kept(self, operation: Operation, progress: dict[str, Any], now: datetime) -> Judgement:
        """It was drained, or stopped before: that it is stopped is no effect of this, which is about its machine."""
        if operation.state in UNDER_WAY:
            since = moment(operation.progress.get("stopped", "")) or now
            state = State.NEEDS_ATTENTION if now - since > GIVING_BACK else State.WORKING
            judgement = Judgement(state, "", {**progress, "stopped": since.isoformat()})
        else:
            judgement = unsettled(operation, now, self.max_sends, waits=State.ACCEPTED)
        return replace(judgement, note=KEPT) if judgement.state == State.NEEDS_ATTENTION else judgement


def _costs(engine: Engine) -> bool:
    machine: Any = engine.wire.get("instance") or {}
    return bool(machine) and machine.get("status") not in GIVEN_BACK
