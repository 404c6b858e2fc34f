"""What a verb has to say for itself. All else about operations is the same for every verb."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from engines import wire
from engines.api.client import EnginesClient
from engines.enums import State
from engines.models import Engine, Operation


@dataclass(frozen=True)
class Judgement:
    """What a reading says about an operation: where it stands, why, and how far it is."""

    state: State
    note: str = ""
    progress: dict[str, Any] = field(default_factory=dict)


class Behaviour(Protocol):
    """One class per verb. A level effect (a state that a reading shows) may be sent again after such a reading."""

    max_sends: int

    def refusal(self, engine: Engine) -> str:
        """Why the engine's state forbids it, in words; "" if it does not."""

    def call(self, client: EnginesClient, operation: Operation) -> wire.Engine | None:
        """Make the one request."""

    def judge(self, operation: Operation, engine: Engine, now: datetime) -> Judgement:
        """Say what the engine's snapshot, read after the send, means for the operation."""
