"""Send a purchase at most once: claim, read again, connect, arm, send, classify, record (docs/billing.md).

Arming is committed before the first byte leaves. Whoever finds an armed row takes it as "may have been sent".
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import F

from engines import snapshots
from engines.access import client_for
from engines.api import errors
from engines.api.decode import later
from engines.api.errors import answer_of
from engines.enums import State
from engines.models import Operation
from engines.money import limits
from engines.money.amounts import PaidTime
from engines.money.kinds import KINDS
from engines.money.models import Extension, Outcome
from engines.money.preflight import right_lost, unsent
from engines.money.process import identity
from engines.money.reading import reading
from engines.money.record import End, record
from engines.operations.moves import Moved, audit, move
from portal import clock
from portal.accounts.models import Team
from portal.failpoints import failpoint
from portal.vault.keys import Sealed, flag
from portal.vault.models import StoredKey

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # from the claim to the arming
ANSWER_SECONDS = 60.0
ARMED_LEASE = timedelta(seconds=150)  # longer than an answer may take: its head, and then its body
WINDOW = 2.0  # seconds from the arming to the first byte, by CLOCK_BOOTTIME
UNSENT_TRIES = 4  # the first, and three more
BUSY_SENDS = 3


class Halt(Exception):
    """Do not send. Raised between the opening of the connection and the first byte."""

    def __init__(self, end: End) -> None:
        super().__init__(end.note)
        self.end = end


def send(operation: Operation, now: datetime) -> None:
    """Send the purchase if it still waits for that. Safe to call any number of times, from any worker."""
    if operation.state != State.REQUESTED or (operation.next_at and operation.next_at > now):
        return
    try:
        if end := right_lost(operation, clock.now()):
            record(operation, end)
            return
        _claim(operation, clock.now())
        failpoint(f"{operation.verb}.claimed")
        end = _attempt(operation)
        failpoint(f"{operation.verb}.answered")
        record(operation, end)
        failpoint(f"{operation.verb}.recorded")
        snapshots.look_soon(operation.connection, clock.now())
    except Moved:
        log.info("purchase %s was moved by somebody else", operation.pk)


def _claim(operation: Operation, now: datetime) -> None:
    fence = operation.fence + 1
    until = now + LEASE
    move(operation, State.CHECKING, now=now, fence=F("fence") + 1, lease_until=until, next_at=until)
    operation.fence = fence


def _attempt(operation: Operation) -> End:
    key = operation.key
    assert key is not None
    try:
        with client_for(key, request_id=operation.request_id) as client:
            paid = KINDS[operation.verb].preflight(operation, client, clock.now())
        if isinstance(paid, End):
            return paid
        failpoint(f"{operation.verb}.checked")
        return _buy(operation, key, paid)
    except Sealed as error:
        return End(State.FAILED, Outcome.NOT_SENT, str(error))
    except errors.KeyRejected as error:
        flag(key, str(error), answer_of(error))
        return End(State.REFUSED, Outcome.REFUSED, str(error), answer=answer_of(error))
    except errors.EngineGone as error:
        return End(State.REFUSED, Outcome.REFUSED, str(error), answer=answer_of(error))
    except errors.ApiError as error:
        return _unsent(operation, error)


def _unsent(operation: Operation, error: errors.ApiError) -> End:
    """Nothing was sent: try again a few times, within the deadline."""
    if operation.fence >= UNSENT_TRIES:
        note = f"{error} Tried {operation.fence} times. Nothing was sent and nothing was charged."
        return End(State.FAILED, Outcome.NOT_SENT, note, answer=answer_of(error))
    wait = (error.retry_after or 2.0**operation.fence) + random.uniform(0, 0.5)  # noqa: S311 (spreads load)
    return End(State.REQUESTED, None, f"{error} Trying again.", wait=timedelta(seconds=wait), answer=answer_of(error))


def _buy(operation: Operation, key: StoredKey, paid: PaidTime) -> End:
    arming = Arming(operation, paid)
    try:
        # A client of its own: its connection is new, and opened before the arming.
        with client_for(key, request_id=operation.request_id, timeout=ANSWER_SECONDS) as client:
            StoredKey.objects.filter(pk=key.pk).update(last_used_at=clock.now())
            dto = KINDS[operation.verb].call(client, operation, paid, arming)
    except Halt as halt:
        return halt.end
    except errors.ApiError as error:
        if not arming.done:  # no connection came about, or it was not worth one
            raise
        return _classify(operation, key, error)
    return KINDS[operation.verb].accepted(operation, dto, clock.now())


@dataclass
class Arming:
    """Runs when the connection is open. After it the request goes out, within WINDOW, or never."""

    operation: Operation
    paid: PaidTime
    done: bool = field(default=False)

    def __call__(self) -> None:
        operation = self.operation
        failpoint(f"{operation.verb}.connected")
        begun = self._commit()
        self.done = True
        failpoint(f"{operation.verb}.armed")
        if clock.boot() - begun > WINDOW:
            note = "The worker was held up at the last moment and sent nothing. Nothing was charged."
            raise Halt(End(State.FAILED, Outcome.NOT_SENT, note))

    def _commit(self) -> float:
        """Arm it, unless spending is frozen; return when that began, by CLOCK_BOOTTIME."""
        operation = self.operation
        with transaction.atomic():
            # Under the lock that a freeze takes too: it is there before the arming, or comes after it.
            Team.objects.select_for_update(no_key=True).get(pk=operation.team_id)
            begun, at = clock.boot(), clock.now()
            if freeze := limits.freeze_of(operation.team):
                raise Halt(End(State.CANCELLED, Outcome.NOT_SENT, f"{freeze} {unsent(operation)}"))
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL synchronous_commit = on")
            facts = {"before": self.paid.threshold, "armed_at": at, "armed_boot": begun, "armed_by": identity()}
            Extension.objects.filter(pk=operation.pk).update(**facts)
            until, sends = at + ARMED_LEASE, operation.attempts + 1
            move(operation, State.SENDING, now=at, sent_at=at, attempts=sends, lease_until=until, next_at=until)
            failpoint(f"{operation.verb}.arming")
        for name, value in facts.items():
            setattr(operation.extension, name, value)
        return begun


def _classify(operation: Operation, key: StoredKey, error: errors.ApiError) -> End:
    """Say what an error after the arming proves: often nothing."""
    match error:
        case errors.ApiBusy(status=429):
            return _if_unchanged(operation, error, lambda: _busy(operation, error))
        case errors.KeyRejected():
            flag(key, str(error), answer_of(error))
            return _if_unchanged(operation, error, lambda: _refused(error))
        case errors.EngineGone() | errors.Refused():
            return _if_unchanged(operation, error, lambda: _refused(error))
        case errors.BadAnswer() if 300 <= error.status < 400:
            audit(operation, "operation.redirected", by=None, outcome="refused", note=str(error))
    return _unknown(error)


def _refused(error: errors.ApiError) -> End:
    return End(State.REFUSED, Outcome.REFUSED, f"{error} Nothing was charged.", answer=answer_of(error))


def _busy(operation: Operation, error: errors.ApiError) -> End:
    if operation.attempts >= BUSY_SENDS:
        return _refused(error)
    wait = timedelta(seconds=(error.retry_after or 2.0**operation.attempts) + random.uniform(0, 0.5))  # noqa: S311
    return End(State.REQUESTED, None, f"{error} Trying again.", wait=wait, answer=answer_of(error))


def _if_unchanged(operation: Operation, error: errors.ApiError, end: Callable[[], End]) -> End:
    """Believe a refusal once a reading shows that nothing happened."""
    try:
        dto = reading(operation)
    except errors.ApiError:
        return _unknown(error)
    found = KINDS[operation.verb].contradiction(operation, dto)
    if found is None:
        return end()
    note = f"{error} {found.words} A person must look at it."
    return End(State.NEEDS_ATTENTION, Outcome.AMBIGUOUS, note, after=found.after, answer=answer_of(error))


def _unknown(error: errors.ApiError) -> End:
    # Whoever runs a purchase again pays twice: what the error advises is not for here.
    said = str(error).removesuffix(later(error.retry_after)).rstrip()
    note = f"{said} Whether it was charged is being checked. Do not ask again."
    return End(State.UNKNOWN, None, note, answer=answer_of(error))
