"""Adding a verb means one class and its line here."""

from engines.enums import Verb
from engines.operations.behaviour import Behaviour
from engines.operations.drain import Drain

VERBS: dict[str, Behaviour] = {Verb.DRAIN: Drain()}
