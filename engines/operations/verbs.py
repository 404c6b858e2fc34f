"""Adding a verb means one class and its line here."""

from collections.abc import Iterable

from engines.enums import EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.behaviour import Behaviour
from engines.operations.create import Create
from engines.operations.delete import Delete
from engines.operations.drain import Drain
from engines.operations.extend import Extend
from engines.operations.rename import Rename
from engines.operations.restart import Restart
from engines.operations.stop import Stop
from engines.operations.update import Update

VERBS: dict[str, Behaviour] = {
    Verb.DRAIN: Drain(),
    Verb.UPDATE: Update(),
    Verb.RESTART: Restart(),
    Verb.STOP: Stop(),
    Verb.RENAME: Rename(),
    Verb.DELETE: Delete(),
    Verb.EXTEND: Extend(),
    Verb.CREATE: Create(),
}

# Conflicts (RELIABILITY 4.1). One operation is open on an engine at a time; a stronger one takes its place.
SUPERSEDES: dict[str, frozenset[str]] = {Verb.STOP: frozenset({Verb.DRAIN, Verb.UPDATE})}


# What does not disturb each other: a machine may be paid for longer while its engine finishes what it runs.
BESIDE = frozenset({frozenset({Verb.EXTEND, Verb.DRAIN}), frozenset({Verb.EXTEND, Verb.UPDATE})})


def blocker(verb: str, opened: Iterable[Operation]) -> Operation | None:
    """Return the operation that has to end before `verb` can be asked; None if there is none.

    `opened` are the open operations on one engine.
    """
    others = (other for other in opened if frozenset({verb, other.verb}) not in BESIDE)
    return next((other for other in others if not takes_the_place_of(verb, other)), None)


def waits_for(verb: str, engine: Engine) -> bool:
    """Say whether asking now means to have it sent when the engine is back."""
    return verb == Verb.DRAIN and engine.status == EngineStatus.DISCONNECTED


def takes_the_place_of(verb: str, other: Operation) -> bool:
    """Say whether asking for `verb` ends `other`. One that is being sent this very moment is left to end first."""
    return other.verb in SUPERSEDES.get(verb, ()) and other.state != State.SENDING
