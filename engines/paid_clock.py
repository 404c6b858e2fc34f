"""Whether what an engine has to finish fits into its machine's paid time. It is only ever said: nothing is bought.

How long a task still takes, nobody knows: what counts is until when a person is ready to wait.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from engines.enums import Verb
from engines.models import Engine, Operation
from engines.money import amounts
from engines.operations.verbs import those
from engines.workers import workers_of
from portal.accounts.access import may
from portal.accounts.models import Membership, Team
from portal.accounts.roles import Role

WAITS_FOR_TASKS = those(lambda verb: verb.finishes_tasks)
BANDS = (
    (timedelta(hours=1), "bad", "1 hour"),
    (timedelta(hours=6), "wait", "6 hours"),
    (timedelta(hours=24), "info", "24 hours"),
)
NAMED = 3


@dataclass(frozen=True)
class Overrun:
    """The machine's paid time may end before the tasks do."""

    engine: Engine
    ends: datetime
    tone: str
    may_extend: bool
    ask: list[str]  # whom, where the viewer may not extend


def tone(ends: datetime, now: datetime) -> str:
    """Return how urgent it is: that of the first band that the rest of the time is in; "" while there is time."""
    return next((colour for within, colour, _ in BANDS if ends - now <= within), "")


def before(verb: Verb, engine: Engine, until: datetime, now: datetime, role: str) -> Overrun | None:
    """Say what to know before it is asked to finish its tasks by `until`: an hour from now, at the least."""
    ends = _ends(engine) if verb in WAITS_FOR_TASKS else None
    if ends is None or ends > until:
        return None
    return _overrun(engine, ends, now, role)


def before_all(verb: Verb, engines: Iterable[Engine], until: datetime, now: datetime, role: str) -> list[Overrun]:
    """As `before`, for many engines of one team: what ends first on top."""
    rented = [engine.pk for engine in engines if engine.cloud and engine.workers_busy]
    if verb not in WAITS_FOR_TASKS or not rented:
        return []
    rows = Engine.objects.filter(pk__in=rented).select_related("team")
    found = [(engine, ends) for engine in rows if (ends := _ends(engine)) and ends <= until]
    who = _overrun(*found[0], now, role) if found else None
    every = [replace(who, engine=engine, ends=ends, tone=tone(ends, now) or "info") for engine, ends in found if who]
    return sorted(every, key=lambda each: each.ends)


def meanwhile(operation: Operation, engine: Engine, now: datetime, role: str) -> Overrun | None:
    """Say it while the operation waits for tasks and the end comes near: within the widest of the bands."""
    ends = _ends(engine) if operation.verb in WAITS_FOR_TASKS else None
    return _overrun(engine, ends, now, role) if ends and tone(ends, now) else None


def _ends(engine: Engine) -> datetime | None:
    """Return until when the machine is paid, where something runs on it that needs it."""
    ends = amounts.end(engine.wire.get("instance"))
    runs = any(worker.busy for worker in workers_of(engine))
    return ends if runs and engine.status not in ("stopped", "deleted") else None


def _overrun(engine: Engine, ends: datetime, now: datetime, role: str) -> Overrun:
    may_extend = may(role, "engine-extend")
    return Overrun(engine, ends, tone(ends, now) or "info", may_extend, [] if may_extend else _who_may(engine.team))


def _who_may(team: Team) -> list[str]:
    roles = [role for role in Role if may(role, "engine-extend")]
    rows = Membership.objects.filter(team=team, role__in=roles, user__is_active=True).select_related("user")
    # Those whose job it is before the admins.
    members = sorted(rows, key=lambda each: (each.role == Role.ADMIN, str(each.user)))
    return [str(each.user) for each in members[:NAMED]]
