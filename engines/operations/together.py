"""Send what is due of a batch: as one operation after the other is sent, with several requests under way at once.

Claimed and recorded a few at a time, each time in one transaction; the requests between them touch no database.
"""

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from engines import snapshots, wire
from engines.access import client_for
from engines.api.client import EnginesClient
from engines.api.errors import ApiError, NoAnswer, NotSent
from engines.enums import MONEY, State
from engines.models import Operation
from engines.operations import turns
from engines.operations.moves import hold, move_all
from engines.operations.send import HELD_UP, WINDOW, Outcome, already, classify, facts_of, right_lost, unread
from engines.operations.verbs import VERBS
from portal import clock
from portal.vault.keys import Sealed
from portal.vault.models import Connection, StoredKey

SECONDS = 10.0  # after which the next sweep goes on: no job is long
MOST = 64  # claimed at once
# What a dead worker had claimed is taken up within 20 seconds, the sweep's round included (RELIABILITY D11).
LEASE = timedelta(seconds=15)
RENEWED = 3.0  # seconds after which an answer renews it: a handful may take several rounds of requests
CONNECTIONS = 8
TROUBLE = timedelta(seconds=5)  # between two tries at an API that does not answer

_under_way: set[uuid.UUID] = set()  # the batches that this process sends
_lock = threading.Lock()


def send_batch(batch_id: uuid.UUID, now: datetime) -> None:
    """Release whose turn it is, and send what is due. Safe to call any number of times, from any worker.

    Begins with one request and doubles: an API that asks for a pause, or does not answer, gets one, for the whole
    batch.
    """
    with _once(batch_id) as ours:
        if not ours:
            return
        turns.release(batch_id, now)
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="batch") as pool, ExitStack() as stack:
            sent = _send(batch_id, pool, Clients(stack))
        # Only now: reading a fleet takes as long as sending some hundreds.
        for connection in sent:
            snapshots.look_soon(connection, clock.now())


def _send(batch_id: uuid.UUID, pool: ThreadPoolExecutor, clients: "Clients") -> set[Connection]:
    """Send until nothing is due, the API asks for a pause, or SECONDS are over; return where to."""
    end, size, sent = time.monotonic() + SECONDS, 1, set[Connection]()
    while time.monotonic() < end:
        begun = clock.boot()  # before the claim, which may have to wait for the database
        claimed = _claim(batch_id, size, clock.now())
        if claimed is None:
            break
        ended = Handful(claimed, begun, pool, clients).send()
        sent |= {operation.connection for operation, _ in ended}
        if _pause(batch_id, ended):
            break
        size = min(2 * size, MOST)
    return sent


@contextmanager
def _once(batch_id: uuid.UUID) -> Iterator[bool]:
    """Say whether this process does not send the batch already: more threads would only take each other's turns."""
    with _lock:
        ours = batch_id not in _under_way
        _under_way.add(batch_id)
    try:
        yield ours
    finally:
        if ours:
            _under_way.discard(batch_id)


@transaction.atomic
def _claim(batch_id: uuid.UUID, size: int, now: datetime) -> list[Operation] | None:
    """Take some operations that are due, those first that the API had no time for; None if there are none."""
    rows = Operation.objects.select_for_update(skip_locked=True, of=("self",), no_key=True).filter(
        batch=batch_id, state=State.REQUESTED, next_at__lte=now
    )
    rows = rows.exclude(verb__in=MONEY)  # sent one by one: see engines/money
    rows = rows.select_related("team", "engine__connection", "key__connection", "requested_by").defer("engine__wire")
    found = list(rows.order_by("-attempts", "next_at", "pk")[:size])
    lost = {each.key_id: each for each in found}
    why_not = {key_id: right_lost(each) for key_id, each in lost.items()}  # the rest is one person's, in one team
    for words in set(why_not.values()) - {""}:
        cancelled = [each for each in found if why_not[each.key_id] == words]
        move_all(cancelled, State.CANCELLED, now=now, note=words)
    until = now + LEASE
    facts: dict[str, Any] = {"fence": F("fence") + 1, "attempts": F("attempts") + 1, "sent_at": now}
    mine = [each for each in found if not why_not[each.key_id]]
    claimed = move_all(mine, State.SENDING, now=now, lease_until=until, next_at=until, **facts)
    for operation in claimed:
        operation.fence += 1
        operation.attempts += 1
    return claimed if found else None


class Handful:
    """Some claimed operations, on their way to the API and back."""

    def __init__(
        self, operations: list[Operation], claimed: float, pool: ThreadPoolExecutor, clients: "Clients"
    ) -> None:
        self.operations = operations
        self.claimed = claimed  # or renewed since: when the lease began, by the machine's clock
        self.pool = pool
        self.clients = clients
        self.outcomes: dict[uuid.UUID, Outcome] = {}

    def send(self) -> list[tuple[Operation, Outcome]]:
        """Make the calls, and record what is known afterwards."""
        self._read()
        keys = {operation.key_id for operation in self._waiting() if operation.key_id}
        StoredKey.objects.filter(pk__in=keys).update(last_used_at=clock.now())
        for operation, answer in self._all(self._call, self._waiting()):
            if isinstance(answer, Outcome):
                self.outcomes[operation.pk] = answer
            else:
                self._ended(operation, answer, State.ACCEPTED)
        return self._record(clock.now())

    def _waiting(self) -> list[Operation]:
        return [operation for operation in self.operations if operation.pk not in self.outcomes]

    def _all(self, call: Callable[[Operation], Any], wanted: list[Operation]) -> list[tuple[Operation, Any]]:
        def caught(operation: Operation) -> Any:
            try:
                return call(operation)
            except (ApiError, Sealed) as error:
                return error

        calls = [self.pool.submit(caught, operation) for operation in wanted]
        for ended in as_completed(calls):
            answer = ended.result()
            if answer is not HELD_UP and not isinstance(answer, NoAnswer | NotSent):
                self._go_on()
        return [(operation, ended.result()) for operation, ended in zip(wanted, calls, strict=True)]

    def _go_on(self) -> None:
        """Hold the operations for a lease more now and then, as there was progress."""
        if clock.boot() - self.claimed > RENEWED:
            self._renew()

    @transaction.atomic
    def _renew(self) -> None:
        """Renew the lease. If any was lost meanwhile this was held up: the rest is sent within its window or not."""
        begun, still = clock.boot(), hold(self.operations)
        if all((each.pk, each.state, each.fence) in still for each in self.operations):
            until = clock.now() + LEASE
            rows = Operation.objects.filter(pk__in=[each.pk for each in self.operations])
            rows.update(lease_until=until, next_at=until)
            self.claimed = begun

    def _read(self) -> None:
        """Read the engines where the verb wants that, or where it was sent before."""
        begun = clock.now()
        behaviours = {each.pk: VERBS[each.verb] for each in self.operations}
        first = [each for each in self._waiting() if each.attempts > 1 or behaviours[each.pk].reads_first]

        def read(operation: Operation) -> wire.Engine:
            return self.clients.of(operation).get(operation.uid)

        for operation, answer in self._all(read, first):
            self._go_on()  # to save some dozens of readings takes a while, too
            if isinstance(answer, ApiError):
                assert operation.key is not None
                self.outcomes[operation.pk] = unread(answer, operation, operation.key, begun)
            elif isinstance(answer, Sealed):
                self._ended(operation, answer, State.FAILED)
            else:
                engine = snapshots.apply_one(operation.connection, answer, begun)
                found = already(operation, engine, begun) if operation.attempts > 1 else None
                if found is None and (why_not := behaviours[operation.pk].objection(operation, engine)):
                    found = Outcome(State.FAILED, why_not)
                if found:
                    self.outcomes[operation.pk] = found

    def _call(self, operation: Operation) -> Outcome | None:
        if clock.boot() - self.claimed > WINDOW:
            return HELD_UP
        behaviour = VERBS[operation.verb]
        if behaviour.max_sends > 1:
            behaviour.call(self.clients.of(operation), operation)
            return None
        with self.clients.fresh(operation) as client:  # sent once: over a connection that nobody can have dropped
            behaviour.call(client, operation)
        return None

    def _ended(self, operation: Operation, error: ApiError | Sealed | None, otherwise: State) -> None:
        match error:
            case Sealed():
                found = Outcome(State.FAILED, str(error))
            case ApiError():
                assert operation.key is not None
                found = classify(error, operation, operation.key, VERBS[operation.verb].max_sends)
            case _:
                found = Outcome(otherwise)
        self.outcomes[operation.pk] = found

    @transaction.atomic
    def _record(self, after: datetime) -> list[tuple[Operation, Outcome]]:
        hold(self.operations)
        alike: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            alike[repr(self.outcomes[operation.pk])].append(operation)
        done: list[Operation] = []
        for some in alike.values():
            outcome = self.outcomes[some[0].pk]
            done += move_all(some, outcome.state, now=after, note=outcome.note, **facts_of(outcome, after))
        return [(operation, self.outcomes[operation.pk]) for operation in done]


class Clients:
    """A client for each key, kept open from one handful to the next."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[Any, EnginesClient] = {}
        self._lock = threading.Lock()

    def of(self, operation: Operation) -> EnginesClient:
        """Raises Sealed if the key cannot be unsealed."""
        with self._lock:
            if operation.key_id not in self._open:
                self._open[operation.key_id] = self._stack.enter_context(self.fresh(operation))
            return self._open[operation.key_id]

    def fresh(self, operation: Operation) -> EnginesClient:
        """Raises Sealed if the key cannot be unsealed."""
        assert operation.key is not None
        return client_for(operation.key, request_id=operation.request_id)


def _pause(batch_id: uuid.UUID, ended: list[tuple[Operation, Outcome]]) -> bool:
    """Have the whole batch wait where the API asked for time or did not answer; say whether that was so.

    One engine that cannot be read waits alone: it may never be read.
    """
    waits = {
        operation.connection.pk: TROUBLE if outcome.state == State.UNKNOWN else outcome.wait
        for operation, outcome in ended
        if outcome.state in (State.UNKNOWN, State.REQUESTED) and outcome != HELD_UP and not outcome.alone
    }
    for connection_id, wait in waits.items():
        until = clock.now() + wait
        rows = Operation.objects.filter(batch=batch_id, state=State.REQUESTED, next_at__lt=until)
        rows.filter(engine__connection=connection_id).update(next_at=until)
    return bool(waits)
