"""Adding a verb means one class, its line here, and its line in the table of retries (behaviour.RETRY)."""

from collections.abc import Callable, Iterable

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
    each.verb: each for each in (Drain(), Update(), Restart(), Stop(), Rename(), Delete(), Extend(), Create())
}


def those(fits: Callable[[Behaviour], bool]) -> tuple[Verb, ...]:
    """Return the verbs that are of this kind, in their order."""
    return tuple(each.verb for each in VERBS.values() if fits(each))


def fit(one: str, other: str) -> bool:
    """Say whether both may be open on an engine at once."""
    return other in VERBS[one].beside or one in VERBS[other].beside


def blocker(verb: str, opened: Iterable[Operation]) -> Operation | None:
    """Return the operation that has to end before `verb` can be asked; None if there is none.

    `opened` are the open operations on one engine.
    """
    others = (other for other in opened if not fit(verb, other.verb))
    return next((other for other in others if not takes_the_place_of(verb, other)), None)


def waits_for(verb: str, engine: Engine) -> bool:
    """Say whether asking now means to have it sent when the engine is back."""
    return VERBS[verb].waits and engine.status == EngineStatus.DISCONNECTED


def takes_the_place_of(verb: str, other: Operation) -> bool:
    """Say whether asking for `verb` ends `other`. One that is being sent this very moment is left to end first."""
    return other.verb in VERBS[verb].supersedes and other.state != State.SENDING
