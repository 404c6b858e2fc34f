"""Update: the engine fetches another version, finishes what it runs, and starts again with it. Contract 2.1 #8, 7.1.

Our own control plane says how far an update is (`update` in the Engine). Of another API only version and status tell.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import Behaviour, Judgement, progress_of, sent_long_ago, unsettled

LONG = timedelta(minutes=15)  # after which an engine that shows nothing of an update is a person's business
UNSEEN = (
    "The engine runs its old version and was not seen to restart. It may have been the newest already, or the update "
    "may not have begun. Look at its log, then close this operation or send it again."
)
SILENT = "The engine is not connected: it may be restarting with its new version."
GONE = "The API no longer knows this engine."


class Update(Behaviour):
    verb = Verb.UPDATE
    icon = "download"
    matters = ("status", "tasks", "ends", "version", "behind")
    for_many = takes = gives_back = finishes_tasks = True
    asks = ("version",)
    queues_behind = frozenset({Verb.DRAIN, Verb.RESTART})

    def refusal(self, engine: Engine) -> str:
        match engine.status:
            case EngineStatus.RUNNING:
                return ""
            case EngineStatus.DISCONNECTED:
                return "The engine is offline. An update needs its connection."
        return f"The engine is {engine.status}; only a running engine can be updated."

    def consequences(self, engine: Engine, running: int) -> list[str]:
        finished = "What runs now is finished first" if running else "Nothing runs on it now"
        return [
            f"{engine.name} fetches the version and checks it while it goes on working.",
            f"{finished}: nothing is cut. Then its process starts again, and it takes tasks as before.",
            "A version that cannot be used changes nothing: the old one runs on, and this says why.",
        ]

    def parameters(self, engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": said["version"], "from": engine.version}

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        return client.update(operation.uid, operation.parameters.get("version", ""))

    def back(self, engine: Engine) -> Judgement:
        # Somebody may have started it with another version than it had when this was asked.
        return replace(super().back(engine), progress={"from": engine.version})

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        told: dict[str, Any] = engine.wire.get("update") or {}
        cycled = bool(operation.progress.get("cycled")) or engine.status in (
            EngineStatus.DRAINING,
            EngineStatus.RESTARTING,
        )
        before = operation.progress.get("from", operation.parameters.get("from", ""))
        progress = {**progress_of(engine), "cycled": cycled, "from": before}
        if engine.status == "deleted":
            return Judgement(State.NEEDS_ATTENTION, GONE)
        if told and operation.state not in (State.UNKNOWN, State.SENDING):  # else it may be told of an earlier one
            return self._as_told(operation, engine, told, progress)
        return self._as_seen(operation, engine, now, progress)

    def _as_told(
        self, operation: Operation, engine: Engine, told: dict[str, Any], progress: dict[str, Any]
    ) -> Judgement:
        match told.get("phase"):
            case "done":
                return Judgement(State.SUCCEEDED, f"It runs {engine.version} now.", progress)
            case "current":
                return Judgement(
                    State.SUCCEEDED, f"{engine.version} is the newest already: nothing was changed.", progress
                )
            case "failed":
                why = told.get("error") or "the engine gave no reason"
                return Judgement(State.FAILED, f"{engine.version} runs on: {why}", progress)
        if engine.status == EngineStatus.DISCONNECTED:
            return Judgement(State.LOST_CONTACT, SILENT, progress)
        return Judgement(State.WORKING, f"Getting {told.get('version') or told.get('asked')} ready.", progress)

    def _as_seen(self, operation: Operation, engine: Engine, now: datetime, progress: dict[str, Any]) -> Judgement:
        before = progress["from"]
        if engine.status in (EngineStatus.DRAINING, EngineStatus.RESTARTING):
            return Judgement(State.WORKING, "", progress)
        if engine.status == EngineStatus.DISCONNECTED:
            return Judgement(State.LOST_CONTACT, SILENT, progress)
        if engine.status != EngineStatus.RUNNING:
            return Judgement(State(operation.state), f"The API calls the engine “{engine.status}”.", progress)
        if engine.version != before:
            return Judgement(State.SUCCEEDED, f"It runs {engine.version} now; it was {before or 'unknown'}.", progress)
        if progress["cycled"]:
            return Judgement(State.SUCCEEDED, f"It was started again and still is {engine.version}.", progress)
        if sent_long_ago(operation, now, LONG):
            return Judgement(State.NEEDS_ATTENTION, UNSEEN, progress)
        return replace(unsettled(operation, now, self.max_sends, waits=State.ACCEPTED), progress=progress)
