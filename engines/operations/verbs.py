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

    `opened` are the open operations on one engine. One that is queued ends after the one before it.
    """
    others = sorted(opened, key=lambda other: other.is_queued)
    others = [other for other in others if not fit(verb, other.verb)]
    return next((other for other in others if not takes_the_place_of(verb, other)), None)


def behind(verb: str, opened: Iterable[Operation]) -> Operation | None:
    """Return the operation that `verb` can be queued behind now; None if there is none, or one is queued already."""
    every = list(opened)
    other = blocker(verb, every)
    free = other is not None and other.verb in VERBS[verb].queues_behind and not any(each.is_queued for each in every)
    return other if free else None


def waits_for(verb: str, engine: Engine) -> bool:
    """Say whether asking now means to have it sent when the engine is back."""
    return VERBS[verb].waits and engine.status == EngineStatus.DISCONNECTED


def takes_the_place_of(verb: str, other: Operation) -> bool:
    """Say whether asking for `verb` ends `other`. One that is being sent this very moment is left to end first.

    What is queued has not begun: what is stronger than anything takes its place, whatever it is.
    """
    stronger = VERBS[verb].supersedes
    return other.state != State.SENDING and (other.verb in stronger or (bool(stronger) and other.is_queued))
