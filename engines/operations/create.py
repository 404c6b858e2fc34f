"""Create: rent a machine with an engine on it. Contract 2.1 #4. It costs money, and is sent at most once a decision.

What is sent how, and what an answer proves, is in engines/money (machine.py): the rules of other verbs do not fit.
"""

from datetime import datetime

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import Behaviour, Judgement


class Create(Behaviour):
    verb = Verb.CREATE
    icon = "plus"

    def refusal(self, engine: Engine) -> str:
        return "It exists already."

    def consequences(self, engine: Engine, running: int) -> list[str]:
        return []

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        raise NotImplementedError("engines.money.send makes the call")

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        """Say nothing: only a reading made for it, on its own schedule, is evidence about money."""
        return Judgement(State(operation.state), operation.note, operation.progress)
