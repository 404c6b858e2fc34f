"""Restart: a cloud engine's machine. Contract 2.1 #11 and 7.1.

An edge effect: sent twice it cuts twice, and a reading can miss it. So it is sent once for each decision of a person,
and what nobody saw is a person's to judge. The machine of an engine that is offline is restarted at once, so the engine
is read first, and nothing is sent to one that went offline since a person agreed to it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import Behaviour, Judgement, progress_of, sent_long_ago

LONG = timedelta(minutes=2)  # within which a restart that happens is seen
UNSEEN = (
    "Nobody saw the machine restart, so it may not have, or too quickly to be seen. Look at its uptime, then close "
    "this operation. It is not sent again by itself."
)
OFFLINE_NOW = (
    "The engine went offline before this was sent, and the machine of an engine that is offline is restarted at once, "
    "with what may still run on it. Nothing was sent: look at it, and ask anew if that is what you want."
)
SAME = "The engine runs as the same process as before, so its machine was not restarted. Send it again, or close this."
AWAY = "The engine is not connected: its machine may be restarting."


class Restart(Behaviour):
    verb = Verb.RESTART
    icon = "refresh"
    matters = ("status", "tasks", "cut", "process")
    for_many = takes = gives_back = needs_wire = True

    def refusal(self, engine: Engine) -> str:
        if not engine.cloud:
            return "Only the machine of a cloud engine can be restarted from here; restart this one on its host."
        match engine.status:
            case EngineStatus.RUNNING | EngineStatus.DISCONNECTED | EngineStatus.STOPPED:
                return ""
        return f"The engine is {engine.status}; its machine is left alone meanwhile."

    def consequences(self, engine: Engine, running: int) -> list[str]:
        said = [f"The rented machine of {engine.name} is restarted, and the engine on it starts again."]
        if engine.status == EngineStatus.RUNNING:
            said.append(
                "The embedded control plane lets running tasks finish first. Another API may restart the machine at "
                "once, and cut them: drain the engine first if you are not sure."
                if running
                else "Nothing runs on it now."
            )
        if engine.status == EngineStatus.DISCONNECTED:
            said.append(
                f"{engine.name} is offline: its machine is restarted at once and cannot be asked to finish anything. "
                "Tasks that still run on it fail, or run again elsewhere if they asked for that."
            )
        said.append("It is sent once. Whether it happened is read from the engine, never tried again by itself.")
        return said

    def parameters(self, engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
        return {"boot_id": engine.wire.get("boot_id") or "", "online": engine.status != EngineStatus.DISCONNECTED}

    def cuts(self, engine: Engine) -> bool:
        return True

    def objection(self, operation: Operation, engine: Engine) -> str:
        went = operation.parameters.get("online") and engine.status == EngineStatus.DISCONNECTED
        return OFFLINE_NOW if went else ""

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        # Between the reading and this it may have gone offline: an API that can leaves it alone then.
        return client.restart(operation.uid, only_if_connected=bool(operation.parameters.get("online")))

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        under_way = engine.status in (EngineStatus.RESTARTING, EngineStatus.DRAINING)
        cycled = under_way or bool(operation.progress.get("cycled")) or bool(_another_process(operation, engine))
        progress = {**progress_of(engine), "cycled": cycled}
        if engine.status == "deleted":
            return Judgement(State.NEEDS_ATTENTION, "The API no longer knows this engine.")
        if under_way:
            return Judgement(State.WORKING, "", progress)
        if engine.status == EngineStatus.RUNNING and cycled and _another_process(operation, engine) is False:
            return Judgement(State.NEEDS_ATTENTION, SAME, progress)
        if engine.status == EngineStatus.RUNNING and cycled:
            return Judgement(State.SUCCEEDED, "The machine was restarted and the engine is back.", progress)
        if engine.status == EngineStatus.DISCONNECTED and cycled:
            return Judgement(State.LOST_CONTACT, AWAY)
        if sent_long_ago(operation, now, LONG):
            return Judgement(State.NEEDS_ATTENTION, UNSEEN, progress)
        return Judgement(State(operation.state), operation.note, progress)


def _another_process(operation: Operation, engine: Engine) -> bool | None:
    """Whether another process answers than when this was asked: a restart may be over before it was seen.

    None if an API does not say.
    """
    before, now = operation.parameters.get("boot_id"), engine.wire.get("boot_id")
    return before != now if before and now else None
