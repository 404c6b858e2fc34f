"""Batches that go on in turns: so many engines of a pool at once, the next one when an earlier one is back."""

import uuid
from datetime import datetime

from django.db import transaction

from engines.capacity import Room, pool_of, rooms, takes
from engines.enums import OPEN, State
from engines.models import Batch, Operation
from engines.operations.moves import AT_ONCE, move_all
from engines.operations.verbs import VERBS
from portal.accounts.models import Team
from portal.live.bus import publish


def release(batch_id: uuid.UUID, now: datetime) -> int:
    """Make due what the guard has room for; return how many that were. Safe to call at any time, by anybody.

    An engine that has meanwhile come into a state that forbids it has time until all others are through. Then it
    loses its turn: nothing is sent to it.
    """
    batch = Batch.objects.select_related("team").get(pk=batch_id)
    return _release(batch, now) if batch.in_turn else 0


@transaction.atomic
def _release(batch: Batch, now: datetime) -> int:
    Team.objects.select_for_update(no_key=True).get(pk=batch.team_id)  # one at a time: what has room is counted
    opened = Operation.objects.of(batch.team).filter(batch=batch, state__in=OPEN)
    rows = opened.filter(state=State.REQUESTED, next_at__isnull=True)
    waiting = list(rows.select_related("engine", "team").order_by("engine__workers_busy", "engine_name", "pk"))
    refusal = VERBS[batch.verb].refusal
    ready = [each for each in waiting if not refusal(each.its_engine)]
    if not ready and opened.count() == len(waiting):
        for why in {refusal(each.its_engine) for each in waiting}:
            lost = [each for each in waiting if refusal(each.its_engine) == why]
            move_all(lost, State.CANCELLED, now=now, note=f"Its turn had come. {why} Nothing was sent.")
        waiting = []
    due = _with_room(ready, batch)
    for start in range(0, len(due), AT_ONCE):
        some = [each.pk for each in due[start : start + AT_ONCE]]
        rows.filter(pk__in=some).update(next_at=now, deadline_at=now + batch.patience)
    if len(due) == len(waiting):
        Batch.objects.of(batch.team).filter(pk=batch.pk).update(in_turn=False)
    if due:
        publish(batch.team_id, "operations")
    return len(due)


def _with_room(waiting: list[Operation], batch: Batch) -> list[Operation]:
    there = rooms(batch.team)
    left = {pool: room.left for pool, room in there.items()}
    if batch.despite_guard:  # somebody has said that one may go of a pool that is too small
        left = {pool: max(1, room.allowed) - room.away for pool, room in there.items()}
    due = []
    for operation in waiting:
        pool = pool_of(operation.its_engine)
        if not takes(operation.its_engine, None):
            due.append(operation)
        elif left.get(pool, Room().left) > 0:
            left[pool] -= 1
            due.append(operation)
    return due
