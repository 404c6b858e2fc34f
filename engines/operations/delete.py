"""Delete: the API forgets an engine that is gone. Contract 2.1 #6. A level effect, and a final one."""

from datetime import datetime

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import Behaviour, Judgement, unsettled


class Delete(Behaviour):
    verb = Verb.DELETE
    icon = "trash"
    matters = ("status", "tasks", "name")
    is_final = for_many = takes = True

    def refusal(self, engine: Engine) -> str:
        match engine.status:
            case EngineStatus.STOPPED | EngineStatus.PENDING:
                return ""
            case EngineStatus.DISCONNECTED:
                return "It still runs tasks. Stop it first." if engine.workers_busy else ""
            case "deleted":
                return "The API no longer knows this engine."
        return f"The engine is {engine.status}. Stop it first."

    def consequences(self, engine: Engine, running: int) -> list[str]:
        return [
            f"{engine.name} is taken off the list. What was done to it stays in the audit log.",
            "A process of it that is started again cannot come back under its id.",
        ]

    def objection(self, operation: Operation, engine: Engine) -> str:
        return self.refusal(engine)  # it is read before it is sent once more: it may be back at work

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        client.delete(operation.uid)
        return None

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        if engine.status == "deleted":
            return Judgement(State.SUCCEEDED, "The API no longer has it.")
        return unsettled(operation, now, self.max_sends, waits=State.ACCEPTED)
