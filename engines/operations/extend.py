"""Extend: buy more time for a cloud engine. It costs money and has no idempotency key: sent at most once a decision.

What is sent how, and what an answer proves, is in engines/money: the rules of other verbs do not fit.
"""

from datetime import datetime

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.money import amounts
from engines.operations.behaviour import Behaviour, Judgement
from portal import clock


class Extend(Behaviour):
    verb = Verb.EXTEND
    icon = "hourglass"
    matters = ("status", "price", "ends")
    for_many = once = needs_wire = True
    most = 200  # each is checked and recorded on its own
    beside = frozenset({Verb.DRAIN, Verb.UPDATE, Verb.RENAME})

    def refusal(self, engine: Engine) -> str:
        return amounts.unsellable(engine, clock.now)

    def consequences(self, engine: Engine, running: int) -> list[str]:
        return ["Its machine is kept for so many hours more, which are charged at once."]

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        raise NotImplementedError("engines.money.send makes the call")

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        """Say nothing: only a reading made for it, on its own schedule, is evidence about money."""
        return Judgement(State(operation.state), operation.note, operation.progress)
