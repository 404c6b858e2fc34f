"""What a person asked for becomes a row: with its audit entry, in one transaction, and nothing is sent yet."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from engines.enums import OPEN, State, Verb
from engines.models import Batch, Engine, Moment, Operation
from engines.operations.moves import AT_ONCE, Decider, Moved, announce, audit, entry, move, move_all
from engines.operations.verbs import SUPERSEDES, takes_the_place_of
from portal.accounts.models import User
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


def request(wish: Wish, *, engine: Engine, user: User, key: StoredKey, origin: Origin, now: datetime) -> Operation:
    """Record the wish and wake a worker after the commit. The caller has checked role, scope and engine state.

    Sent twice, the same wish returns the same operation. Raises Busy if another operation on the engine is open,
    and Changed if this id was used with other words.
    """
    try:
        with transaction.atomic():
            return _create(wish, engine, user, key, origin, now)
    except (IntegrityError, Moved):
        return _earlier(wish, engine, user)


def _create(wish: Wish, engine: Engine, user: User, key: StoredKey, origin: Origin, now: datetime) -> Operation:
    _supersede(wish, engine, Decider(user, origin), now)
    operation = _row(wish, engine, user, key, origin, now)
    operation.save(force_insert=True)
    Moment.objects.create(operation=operation, at=now, state=State.REQUESTED, text=_asked(user, wish))
    audit(operation, f"engine.{wish.verb}", by=Decider(user, origin))
    announce(operation)
    # The one allowed cycle: operations name their task, the task calls operations.
    from engines.tasks import wake

    wake_after_commit(wake, str(operation.pk))
    return operation


def _row(wish: Wish, engine: Engine, user: User, key: StoredKey, origin: Origin, now: datetime) -> Operation:
    return Operation(
        id=wish.id,
        team=engine.team,
        engine=engine,
        engine_name=engine.name,
        verb=wish.verb,
        parameters=wish.parameters,
        reason=wish.reason,
        requested_by=user,
        requested_name=str(user)[:150],
        role=origin.role,
        request_id=origin.request_id,
        address=origin.address,
        key=key,
        key_label=str(key),
        requested_at=now,
        deadline_at=now + wish.deadline,
        moved_at=now,
        next_at=now,
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
    asked = list(wishes)
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
    return [row.engine for row in rows if row.pk not in made]


def _supersede_all(asked: list[tuple[Wish, Engine, StoredKey]], by: Decider, now: datetime) -> None:
    verb = asked[0][0].verb if asked else ""
    engines = {engine.pk for _, engine, _ in asked}
    if verb not in SUPERSEDES:
        return
    rows = Operation.objects.of(asked[0][1].team).filter(state__in=OPEN, verb__in=SUPERSEDES[Verb(verb)])
    others = [each for each in rows.select_related("team", "engine") if each.engine_id in engines]
    others = [each for each in others if takes_the_place_of(verb, each)]
    move_all(others, State.SUPERSEDED, now=now, by=by, note=f"{by.user} asked for a {verb} instead.")


def _supersede(wish: Wish, engine: Engine, by: Decider, now: datetime) -> None:
    """End the open operation whose place this one takes: it is stronger, and its dialog said so."""
    other = Operation.objects.of(engine.team).filter(engine=engine, state__in=OPEN).select_related("team").first()
    if other is not None and other.pk != wish.id and takes_the_place_of(wish.verb, other):
        note = f"{by.user} asked for a {wish.verb} instead."
        move(other, State.SUPERSEDED, now=now, by=by, note=note)


def _earlier(wish: Wish, engine: Engine, user: User) -> Operation:
    found = Operation.objects.of(engine.team).filter(pk=wish.id).first()
    if found is None:
        raise Busy(Operation.objects.of(engine.team).filter(engine=engine, state__in=OPEN).first())
    same = (found.engine_id, found.verb, found.reason, found.requested_by_id, found.parameters)
    if same != (engine.pk, wish.verb, wish.reason, user.pk, wish.parameters):
        raise Changed
    return found
