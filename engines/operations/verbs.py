"""Adding a verb means one class and its line here."""

from engines.enums import State, Verb
from engines.models import Operation
from engines.operations.behaviour import Behaviour
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
}

# Conflicts (RELIABILITY 4.1). One operation is open on an engine at a time; a stronger one takes its place.
SUPERSEDES: dict[str, frozenset[str]] = {Verb.STOP: frozenset({Verb.DRAIN, Verb.UPDATE})}


def takes_the_place_of(verb: str, other: Operation) -> bool:
    """Say whether asking for `verb` ends `other`. One that is being sent this very moment is left to end first."""
    return other.verb in SUPERSEDES.get(verb, ()) and other.state != State.SENDING
