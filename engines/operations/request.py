"""What a person asked for becomes a row: with its audit entry, in one transaction, and nothing is sent yet."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from engines.enums import OPEN, State, Verb
from engines.models import Engine, Moment, Operation
from engines.operations.moves import Decider, Moved, announce, audit, move
from engines.operations.verbs import takes_the_place_of
from portal.accounts.models import User
from portal.audit.origin import Origin
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
    operation = Operation.objects.create(
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
    text = f"Asked by {user}: {wish.reason}"[:300]
    Moment.objects.create(operation=operation, at=now, state=State.REQUESTED, text=text)
    audit(operation, f"engine.{wish.verb}", by=Decider(user, origin))
    announce(operation)
    # The one allowed cycle: operations name their task, the task calls operations.
    from engines.tasks import wake

    wake_after_commit(wake, str(operation.pk))
    return operation


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
