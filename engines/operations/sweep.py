"""Find all due work in the database. Whatever a message should have woken and did not, is found here."""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import zip_longest

from django.db import transaction
from django.db.models import Q

from engines import snapshots
from engines.enums import MONEY, OPEN, State
from engines.keys import due_for_removal
from engines.models import QUEUED, Automation, Batch, Operation
from engines.money import process, reconcile
from engines.operations.alarms import people_to_tell
from engines.operations.moves import Moved, amend, move, move_all
from engines.operations.queue import release
from engines.operations.send import send
from engines.operations.together import send_batch
from portal.vault.models import Connection
from portal.vault.tell import owners_to_tell

BATCH = 100
SIGN_OF_LIFE = timedelta(seconds=30)  # within which a worker that is at work has been seen: twice as long as it needs
NOT_BACK = "The engine did not come back in time, so nothing was sent. If it is still wanted, ask again."
LOST = "The worker that was sending this disappeared. Whether the engine got the request is being checked."
Job = Callable[[str, datetime], None]


def due(now: datetime) -> Iterator[Callable[[], None]]:
    """Yield the jobs that are due. Each may be run by anybody, any number of times."""
    rows = Operation.objects.filter(state__in=OPEN, next_at__lte=now)
    together = Q(batch__isnull=False, state__in=(State.REQUESTED, State.SENDING)) & ~Q(verb__in=MONEY)
    batched = set(rows.filter(together).order_by().values_list("batch", "state").distinct()[:BATCH])
    batches = {batch_id for batch_id, state in batched if state == State.REQUESTED}
    batches |= set(Batch.objects.filter(in_turn=True).values_list("pk", flat=True)[:BATCH])
    rows = rows.exclude(together).order_by("next_at")
    yield from (partial(recover_all, batch_id, now) for batch_id, state in batched if state == State.SENDING)
    for pk, state, verb in rows.values_list("pk", "state", "verb")[:BATCH]:
        if job := rule(State(state), verb):
            yield partial(job, str(pk), now)
    queued = Operation.objects.filter(QUEUED, state=State.WAITING, behind__finished_at__isnull=False)
    for pk in queued.values_list("pk", flat=True)[:BATCH]:
        yield partial(release, str(pk), now)
    yield from due_for_removal(now)
    yield from owners_to_tell(now)
    yield from people_to_tell(now)
    # A whole batch comes after single operations, and in turns with readings: none keeps the others waiting.
    sends = [partial(send_batch, batch_id, now) for batch_id in batches]
    reads = [partial(snapshots.refresh, connection_id, now) for connection_id in due_connections(now)]
    for pair in zip_longest(reads, sends):
        yield from (job for job in pair if job)


def due_connections(now: datetime) -> list[int]:
    """Return the connections whose fleet, or whose watched engines, are to be read."""
    rows = Connection.objects.filter(
        Q(refresh_due_at__isnull=True) | Q(refresh_due_at__lte=now),
        Q(refresh_lease_until__isnull=True) | Q(refresh_lease_until__lte=now),
    )
    return list(rows.values_list("pk", flat=True)[:BATCH])


def give_up(operation_id: str, now: datetime) -> None:
    """End what has waited for its engine for as long as it was to wait."""
    operation = Operation.objects.select_related("team", "engine__connection").get(pk=operation_id)
    if operation.state != State.WAITING or operation.next_at is None or operation.next_at > now:
        return
    try:
        move(operation, State.CANCELLED, now=now, note=NOT_BACK)
    except Moved:
        return


def recover(operation_id: str, now: datetime) -> None:
    """A send that outlived its lease: its worker is gone, and the request may have left or not."""
    operation = Operation.objects.select_related("team", "engine__connection", "new_at", "requested_by").get(
        pk=operation_id
    )
    stale = all(at is None or at <= now for at in (operation.lease_until, operation.next_at))
    if operation.state != State.SENDING or not stale:
        return
    is_money = operation.verb in MONEY
    try:
        if is_money and not _ended(operation, now):
            return
        move(operation, State.UNKNOWN, now=now, note=LOST, lease_until=None, next_at=now if is_money else None)
        snapshots.look_soon(operation.connection, now)
    except Moved:
        return


def recover_all(batch_id: uuid.UUID, now: datetime) -> None:
    """As `recover`, for what a worker had claimed of a batch, which is all at once."""
    with transaction.atomic():
        # Locked as they are found: a worker that is alive after all renews its lease before this, or not at all.
        rows = Operation.objects.select_for_update(of=("self",), no_key=True).filter(
            batch=batch_id, state=State.SENDING
        )
        rows = rows.filter(next_at__lte=now).exclude(lease_until__gt=now).exclude(verb__in=MONEY).order_by("pk")
        found = list(rows.select_related("team", "engine__connection", "requested_by"))
        lost = move_all(found, State.UNKNOWN, now=now, note=LOST, lease_until=None, next_at=None)
    for connection in {operation.connection for operation in lost}:
        snapshots.look_soon(connection, now)


def _ended(operation: Operation, now: datetime) -> bool:
    """Whether whoever armed this sends it no more. A process on this host that gives no sign of life is ended.

    One that sweeps is not held up, it could only not record this, as while the database was away. To end it would
    leave in doubt what else it is buying, so it has time to be seen.
    """
    who = operation.extension.armed_by
    if not process.is_here(who):
        return True
    if operation.lease_until is not None:
        amend(operation, lease_until=None, next_at=now + SIGN_OF_LIFE)
        return False
    since = (operation.next_at or now) - SIGN_OF_LIFE
    if not Automation.objects.filter(worker=who.rpartition(":")[0], seen_at__gt=since).exists():
        process.end(who)
    return True


# What is done with an operation in a state once its `next_at` has come. None: no clock moves it on, the readings of its
# connection do (settle.WATCHED). A test holds that no open state is missing.
RULES: dict[State, Job | None] = {
    State.WAITING: give_up,
    State.REQUESTED: send,
    State.CHECKING: reconcile.requeue,
    State.SENDING: recover,
    State.ACCEPTED: None,
    State.WORKING: None,
    State.UNKNOWN: None,
    State.LOST_CONTACT: None,
    State.STUCK: None,
    State.NEEDS_ATTENTION: None,
}
# Money is read on a schedule of its own: unknown, or on its way.
MONEY_RULES: dict[State, Job] = {State.UNKNOWN: reconcile.look, State.WORKING: reconcile.look}


def rule(state: State, verb: str) -> Job | None:
    return MONEY_RULES.get(state, RULES[state]) if verb in MONEY else RULES[state]
