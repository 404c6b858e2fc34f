"""What a person asked for becomes a row: with its audit entry, in one transaction, and nothing is sent yet."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from engines.enums import OPEN, State, Verb
from engines.models import QUEUED, Batch, Engine, Moment, Operation
from engines.operations.behaviour import PATIENCE
from engines.operations.moves import AT_ONCE, Decider, Moved, announce, audit, entry, hold, move, move_all
from engines.operations.queue import words
from engines.operations.verbs import VERBS, behind, blocker, fit, takes_the_place_of
from portal.accounts.models import Team, User
from portal.audit.log import record_all
from portal.audit.origin import Origin
from portal.live.bus import publish
from portal.vault.models import StoredKey
from portal.wake import wake_after_commit


class Busy(Exception):
    """Another operation on the engine is still open."""

    def __init__(self, other: Operation | None) -> None:
        self.other = other
        super().__init__(
            f"{other} is still open, asked by {other.requested_name}." if other else "Another operation is still open."
        )


class Changed(Exception):
    """The same form was sent before with other words: which of the two is meant, only its sender knows."""


@dataclass(frozen=True)
class Wish:
    """One confirmed form. `id` is minted with the form, so the same form sent twice is one operation."""

    id: uuid.UUID
    verb: Verb
    reason: str
    deadline: timedelta
    parameters: dict[str, Any]
    retry_of: Operation | None = None  # the operation that is tried again


def request(
    wish: Wish, *, engine: Engine | None, user: User, key: StoredKey, origin: Origin, now: datetime
) -> Operation:
    """Record the wish and wake a worker after the commit. The caller has checked role, scope and engine state.

    Without an engine it is about a new one, at the key's connection, whose name is among the wish's parameters.

    Sent twice, the same wish returns the same operation. Raises Busy if another operation on the engine is open, unless
    this can be queued behind it and says how long it may wait; and Changed if this id was used with other words.
    """
    try:
        with transaction.atomic():
            return _create(wish, engine, user, key, origin, now)
    except (IntegrityError, Moved):
        return _earlier(wish, engine, user, key.team)


def _create(wish: Wish, engine: Engine | None, user: User, key: StoredKey, origin: Origin, now: datetime) -> Operation:
    first = _make_room(wish, engine, Decider(user, origin), now) if engine else None
    operation = _row(wish, engine, user, key, origin, now, first)
    operation.save(force_insert=True)
    state = State.REQUESTED if first else operation.state  # it does not wait for the engine yet
    Moment.objects.create(operation=operation, at=now, state=state, text=_asked(user, wish))
    audit(operation, f"engine.{wish.verb}", by=Decider(user, origin), note=operation.note)
    announce(operation)
    # The one allowed cycle: operations name their task, the task calls operations.
    from engines.tasks import wake

    if operation.state == State.REQUESTED:
        wake_after_commit(wake, str(operation.pk))
    return operation


def _row(
    wish: Wish,
    engine: Engine | None,
    user: User,
    key: StoredKey,
    origin: Origin,
    now: datetime,
    first: Operation | None = None,
) -> Operation:
    waits = PATIENCE in wish.parameters
    first_look = now + timedelta(hours=wish.parameters.get(PATIENCE, 0))
    return Operation(
        id=wish.id,
        team=engine.team if engine else key.team,
        engine=engine,
        engine_name=engine.name if engine else wish.parameters["name"],
        new_at=None if engine else key.connection,
        verb=wish.verb,
        state=State.WAITING if waits else State.REQUESTED,
        parameters=wish.parameters,
        retry_of=wish.retry_of,
        behind=first,
        note=words(first) if first else "",
        reason=wish.reason,
        requested_by=user,
        requested_name=str(user)[:150],
        role=origin.role,
        request_id=origin.request_id,
        address=origin.address,
        key=key,
        key_label=str(key),
        requested_at=now,
        deadline_at=first_look if waits else now + wish.deadline,
        moved_at=now,
        next_at=None if first else first_look,
    )


def _asked(user: User, wish: Wish) -> str:
    return f"Asked by {user}: {wish.reason}"[:300]


@transaction.atomic
def request_all(
    wishes: Iterable[tuple[Wish, Engine, StoredKey]],
    *,
    batch: Batch,
    user: User,
    origin: Origin,
    now: datetime,
    in_turn: bool = False,
) -> list[Engine]:
    """Record the wishes of a batch in a few statements; return the engines on which another operation is open.

    `in_turn`: none is due before `engines.turns.release` says so. No worker is woken.
    """
    every = list(wishes)
    paying = _being_paid(every)
    asked = [each for each in every if each[1].pk not in paying]
    _supersede_all(asked, Decider(user, origin), now)
    rows = [_row(wish, engine, user, key, origin, now) for wish, engine, key in asked]
    for row in rows:
        row.batch, row.next_at = batch, None if in_turn else now
    Operation.objects.bulk_create(rows, batch_size=AT_ONCE, ignore_conflicts=True)
    made = set(Operation.objects.of(batch.team).filter(batch=batch).values_list("pk", flat=True))
    ours = [row for row in rows if row.pk in made]
    texts = {wish.id: _asked(user, wish) for wish, _, _ in asked}
    Moment.objects.bulk_create(
        (Moment(operation=row, at=now, state=State.REQUESTED, text=texts[row.pk]) for row in ours), batch_size=AT_ONCE
    )
    by = Decider(user, origin)
    record_all([entry(row, f"engine.{row.verb}", by=by) for row in ours], team=batch.team, actor=user)
    publish(batch.team_id, "operations", "engines")
    return [engine for wish, engine, _ in every if wish.id not in made]


def _being_paid(asked: list[tuple[Wish, Engine, StoredKey]]) -> set[int]:
    """Return the engines of a batch that have to wait, because time is being bought for them at this moment."""
    if not asked or fit(Verb.EXTEND, asked[0][0].verb):
        return set()
    team = asked[0][1].team
    _lock(team)
    rows = Operation.objects.of(team).filter(verb=Verb.EXTEND, state__in=OPEN)
    return set(rows.values_list("engine", flat=True))


def _lock(team: Team) -> None:
    """Keep purchases, and what must not be open beside one, apart: the database's constraint is of one kind each."""
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)


def _supersede_all(asked: list[tuple[Wish, Engine, StoredKey]], by: Decider, now: datetime) -> None:
    if asked:
        verb = asked[0][0].verb
        others = superseded(verb, [engine for _, engine, _ in asked])
        move_all(others, State.SUPERSEDED, now=now, by=by, note=f"{by.user} asked for a {verb} instead.")


def superseded(verb: Verb, engines: list[Engine]) -> list[Operation]:
    """Return the open operations on one team's engines whose place this takes."""
    if not VERBS[verb].supersedes or not engines:
        return []
    wanted = {engine.pk for engine in engines}
    opened: dict[int | None, list[Operation]] = defaultdict(list)
    for each in Operation.objects.of(engines[0].team).filter(state__in=OPEN).select_related("team", "engine"):
        if each.engine_id in wanted:
            opened[each.engine_id].append(each)
    # Where another one has to end first, as it is being sent, nothing is asked: what is queued behind that stays.
    free = [some for some in opened.values() if not blocker(verb, some)]
    return [each for some in free for each in some if takes_the_place_of(verb, each)]


def _make_room(wish: Wish, engine: Engine, by: Decider, now: datetime) -> Operation | None:
    """End the open operation whose place this one takes: it is stronger, and its dialog said so.

    Return the one that it is queued behind, if it is ready to wait. Raises Busy if another one has to end first. Of one
    kind, the database lets only one be open; a purchase and what must not be open beside it, such as a stop, are kept
    apart by the team's lock.
    """
    rows = Operation.objects.of(engine.team)
    if not fit(Verb.EXTEND, wish.verb):
        _lock(engine.team)
    if rows.filter(pk=wish.id).exists():
        return None  # the same form again
    opened = list(rows.filter(engine=engine, state__in=OPEN).select_related("team"))
    if other := blocker(wish.verb, opened):
        if PATIENCE in wish.parameters and (first := behind(wish.verb, opened)):
            return first
        raise Busy(other)
    taken = [other for other in opened if takes_the_place_of(wish.verb, other)]
    hold(taken)  # before the first is in the log: somebody may be moving the other
    for other in taken:
        move(other, State.SUPERSEDED, now=now, by=by, note=f"{by.user} asked for a {wish.verb} instead.")
    return None


def tried(engine: Engine, verb: Verb) -> QuerySet[Operation]:
    """Return what was asked of the engine before and has ended: what can be tried again."""
    return Operation.objects.of(engine.team).filter(engine=engine, verb=verb).exclude(state__in=OPEN)


def _earlier(wish: Wish, engine: Engine | None, user: User, team: Team) -> Operation:
    found = Operation.objects.of(team).filter(pk=wish.id).first()
    if found is None:
        raise Busy(Operation.objects.of(team).filter(engine=engine, state__in=OPEN).exclude(QUEUED).first())
    if not said_before(found, wish, user, engine):
        raise Changed
    return found


def said_before(found: Operation, wish: Wish, user: User, engine: Engine | None) -> bool:
    """Say whether the operation of this wish's id was asked for in the same words."""
    about = [wish.verb, wish.reason, user.pk, wish.parameters]
    same_engine = engine is None or found.engine_id == engine.pk
    return same_engine and about == [found.verb, found.reason, found.requested_by_id, found.parameters]
