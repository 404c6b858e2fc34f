"""Rename: what people call an engine. Contract 2.1 #5. A level effect; it touches nothing that runs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import Behaviour, Judgement, unsettled


class Rename(Behaviour):
    verb = Verb.RENAME
    icon = "bookmark"
    matters = ("status", "name", "behind")
    for_many = once = True
    most = 200  # each new name is to be looked at
    queues_behind = frozenset({Verb.DRAIN, Verb.UPDATE, Verb.RESTART, Verb.STOP})

    def refusal(self, engine: Engine) -> str:
        return "The API no longer knows this engine." if engine.status == "deleted" else ""

    def consequences(self, engine: Engine, running: int) -> list[str]:
        return [
            "Nothing that runs is touched.",
            "Tasks that are aimed at its workers by name have to be aimed at the new name.",
        ]

    def parameters(self, engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": said["name"], "from": engine.name}

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        return client.rename(operation.uid, operation.parameters["name"])

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        if engine.name == operation.parameters.get("name"):
            return Judgement(State.SUCCEEDED, f"It is called {engine.name} now.")
        return unsettled(operation, now, self.max_sends, waits=State.ACCEPTED)
