"""One wish for many engines: what it would do, what it must not do by accident, and one outcome for each engine."""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet

from engines.access import why_not
from engines.enums import OPEN, EngineStatus, State, Verb
from engines.models import Batch, Engine, Operation
from engines.operations import decide
from engines.operations.moves import Decider, Moved
from engines.operations.request import Busy, Changed, Wish
from engines.operations.request import request as ask
from engines.workers import workers_of
from portal.accounts.models import Team, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.vault.keys import current_keys

MOST = 2000  # engines in one batch
SHARE = 0.3  # of a pool's running engines that may go at once, unless somebody says otherwise


@dataclass(frozen=True)
class Breach:
    """What a batch would do to a pool: the engines of one connection with the same GPU."""

    pool: str
    taken: int
    running: int

    @property
    def is_last(self) -> bool:
        return self.taken >= self.running

    def __str__(self) -> str:
        if self.is_last:
            return f"{self.pool}: no running engine is left, of {self.running}."
        return f"{self.pool}: {self.taken} of {self.running} running engines at once."


@dataclass
class Plan:
    """What would become of each engine that was selected."""

    verb: Verb
    will: list[Engine] = field(default_factory=list)
    wont: list[tuple[Engine, str]] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    left_out: int = 0  # selected beyond MOST

    @property
    def tasks(self) -> int:
        """How many tasks run on the engines that it would be asked of."""
        return sum(worker.busy for engine in self.will for worker in workers_of(engine))

    @property
    def fingerprint(self) -> str:
        """What a person agrees to: which engines, and that the guard objects or not."""
        what = [str(engine.pk) for engine in self.will] + [str(breach) for breach in self.breaches]
        return hashlib.sha256("\n".join(what).encode()).hexdigest()[:32]

    def reasons(self) -> list[tuple[str, list[Engine]]]:
        """The engines that it would not be asked of, by why."""
        found: dict[str, list[Engine]] = defaultdict(list)
        for engine, why in self.wont:
            found[why].append(engine)
        return sorted(found.items(), key=lambda item: -len(item[1]))


def plan(verb: Verb, rows: QuerySet[Engine], *, team: Team, user: User, role: str, within_guard: bool = False) -> Plan:
    """Say what would happen. `within_guard` leaves out what the guard objects to, instead of saying so."""
    engines = list(rows.select_related("connection").order_by("name", "pk")[: MOST + 1])
    made = Plan(verb, left_out=max(0, len(engines) - MOST))
    keys = {key.connection_id: key for key in current_keys(team).filter(user=user)}
    opened = {each.engine_id: each for each in Operation.objects.of(team).filter(state__in=OPEN)}
    for engine in engines[:MOST]:
        key, busy = keys.get(engine.connection_id), opened.get(engine.pk)
        if refusal := why_not(verb, engine, role=role, key=key, busy=busy):
            made.wont.append((engine, refusal))
        else:
            made.will.append(engine)
    if within_guard:
        _hold_back(made, team)
    made.breaches = guard(made.will, team)
    return made


def guard(will: Iterable[Engine], team: Team) -> list[Breach]:
    """Return the pools of which too much would go at once. What is under way already counts as gone."""
    wanted: dict[tuple[int, str], list[Engine]] = defaultdict(list)
    for engine in will:
        wanted[engine.connection_id, engine.gpu].append(engine)
    running, going = _pools(team)
    found = []
    for pool, engines in wanted.items():
        there, taken = running.get(pool, 0), len(engines) + going.get(pool, 0)
        if taken > _allowed(there) or taken >= there:
            name = f"{engines[0].connection.name}, {pool[1] or 'CPU only'}"
            found.append(Breach(name, taken, there))
    return sorted(found, key=lambda breach: breach.pool)


def _allowed(running: int) -> int:
    return min(max(1, int(running * SHARE)), running - 1)


def _pools(team: Team) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], int]]:
    """Return how many engines of each pool run or were running until a moment ago, and how many of those are going."""
    rows = Engine.objects.of(team).filter(status__in=[EngineStatus.RUNNING, EngineStatus.DRAINING])
    taken = Operation.objects.of(team).filter(state__in=OPEN, engine__in=rows)
    running = {
        (row["connection"], row["gpu"]): row["n"] for row in rows.values("connection", "gpu").annotate(n=Count("pk"))
    }
    going = {
        (row["engine__connection"], row["engine__gpu"]): row["n"]
        for row in taken.values("engine__connection", "engine__gpu").annotate(n=Count("pk"))
    }
    return running, going


def _hold_back(made: Plan, team: Team) -> None:
    """Keep only as many of each pool as the guard allows, those with the least to finish first."""
    running, going = _pools(team)
    room = {pool: _allowed(number) - going.get(pool, 0) for pool, number in running.items()}
    keep = []
    for engine in sorted(made.will, key=lambda each: (each.workers_busy, each.name)):
        pool = (engine.connection_id, engine.gpu)
        if room.get(pool, 0) > 0:
            room[pool] -= 1
            keep.append(engine)
        else:
            made.wont.append((engine, "Left out, so that enough of its pool goes on running."))
    made.will = sorted(keep, key=lambda each: each.name)


def start(
    made: Plan,
    *,
    batch_id: uuid.UUID,
    team: Team,
    user: User,
    origin: Origin,
    reason: str,
    deadline: timedelta,
    despite: bool,
    now: datetime,
) -> Batch:
    """Record the batch and an operation for each engine that it is asked of, all or nothing.

    Raises IntegrityError if there is a batch of that id: the same form was sent twice.
    """
    keys = {key.connection_id: key for key in current_keys(team).filter(user=user)}
    with transaction.atomic():
        batch = Batch.objects.create(
            id=batch_id,
            team=team,
            verb=made.verb,
            reason=reason,
            requested_by=user,
            requested_name=str(user)[:150],
            requested_at=now,
            not_asked=[_not_asked(engine, why) for engine, why in made.wont],
        )
        detail: dict[str, Any] = {"asked": len(made.will), "not_asked": len(made.wont), "despite_guard": despite}
        detail["guard"] = [str(breach) for breach in made.breaches]
        record(
            team=team,
            actor=user,
            action=f"batch.{made.verb}",
            target=batch,
            origin=origin,
            reason=reason,
            **detail,
        )
        for engine in made.will:
            wish = Wish(uuid.uuid5(batch_id, str(engine.pk)), made.verb, reason, deadline, {})
            try:
                operation = ask(wish, engine=engine, user=user, key=keys[engine.connection_id], origin=origin, now=now)
                Operation.objects.filter(pk=operation.pk).update(batch=batch)
            except (Busy, Changed) as trouble:
                batch.not_asked.append(_not_asked(engine, str(trouble)))
        Batch.objects.filter(pk=batch.pk).update(not_asked=batch.not_asked)
    return batch


def _not_asked(engine: Engine, why: str) -> dict[str, str]:
    return {"uid": engine.uid, "name": engine.name, "why": why}


def stop_the_rest(batch: Batch, *, by: Decider, now: datetime) -> int:
    """Cancel what has not been sent yet; return how many that were. What was sent goes on."""
    stopped = 0
    for operation in Operation.objects.of(batch.team).filter(batch=batch, state=State.REQUESTED):
        try:
            decide.cancel(operation, by=by, now=now)
            stopped += 1
        except (Moved, ValueError):
            continue
    return stopped


def outcomes(batch: Batch) -> dict[str, int]:
    """Return how many operations are in each state."""
    rows = Operation.objects.of(batch.team).filter(batch=batch).values("state").annotate(n=Count("pk"))
    return {row["state"]: row["n"] for row in rows.order_by("state")}
