"""The fleet as last read: refresh a connection a page at a time, and settle what the readings prove.

Watching costs requests per page of engines, not per operation: min(operations, pages) a round.
"""

import hashlib
import json
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.fields.json import KeyTextTransform

from engines import wire
from engines.access import client_for, reading_keys
from engines.api import errors
from engines.api.client import EnginesClient
from engines.enums import MONEY, OPEN, EngineStatus, Verb
from engines.models import QUEUED, Change, Engine, LedgerEntry, Moment, Operation
from engines.operations.settle import WATCHED, settle
from engines.wire import moment
from portal import clock
from portal.live.bus import publish
from portal.vault.keys import Sealed, flag
from portal.vault.models import Connection

log = logging.getLogger(__name__)

PAGE = 100  # the contract's cap
FULL_PASS = timedelta(seconds=15)
EMPTY_PASS = timedelta(seconds=3)
WATCH = timedelta(seconds=2)
WATCH_OLD = timedelta(seconds=5)  # for operations of more than OLD: a drain of hours needs no two-second rhythm
OLD = timedelta(minutes=10)
SOON = timedelta(seconds=1)
# Shorter than the slowest answer: two readers at once harm nothing, a dead one must be replaced soon.
LEASE = timedelta(seconds=12)
STALE_AFTER = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(seconds=60)
LAG = timedelta(minutes=1)  # for how long an API may still show an engine as it was (RELIABILITY D18)
GAP = timedelta(minutes=2)  # without a reading: worth a word to whoever looks for what happened when
LEAVING = (EngineStatus.DRAINING, EngineStatus.STOPPING, EngineStatus.STOPPED)

# Meter readings change with every heartbeat: a row is not rewritten for them alone.
METERS = frozenset(
    {
        *("updated_at", "heartbeat_at", "usage", "normalized_usage", "used", "free", "available", "temperature"),
        *("memory_used", "swap_used", "swap_free", "swap_usage"),
    }
)


@dataclass
class Made:
    """How many requests a reading has made, whether it succeeds or not."""

    requests: int = 0

    @contextmanager
    def by(self, client: EnginesClient) -> Iterator[None]:
        try:
            yield
        finally:
            self.requests += client.requests


def seen_at(engine: Engine, connection: Connection) -> datetime:
    """Return when the engine's values were last known to be true."""
    if engine.missing_since is None and connection.refreshed_at is not None:
        return max(engine.observed_at, connection.refreshed_at)
    return engine.observed_at


def refresh(connection_id: int, now: datetime) -> None:
    """Read the connection's fleet, or only the engines under watch, if that is due and nobody else does.

    A failure is kept on the connection and shown; what was read before stays.
    """
    begun = clock.now()  # later than `now`, if whoever found it due had other work first
    if not _claim(connection_id, now, begun):
        return
    connection = Connection.objects.select_related("team").get(pk=connection_id)
    made = Made()
    try:
        pause = _read(connection, now, made)
    except (errors.ApiError, Sealed) as error:
        _failed(connection, error, begun, made)
    else:
        _free(connection, begun, pause, made, last_error="", last_answer={}, failing_since=None, skew=connection.skew)


def _claim(connection_id: int, now: datetime, begun: datetime) -> bool:
    due = Connection.objects.filter(pk=connection_id).filter(
        Q(refresh_due_at__isnull=True) | Q(refresh_due_at__lte=now),
        Q(refresh_lease_until__isnull=True) | Q(refresh_lease_until__lte=now),
    )
    return due.update(refresh_due_at=begun, refresh_lease_until=begun + LEASE) == 1


def _free(connection: Connection, begun: datetime, pause: timedelta, made: Made, **facts: Any) -> None:
    """End the reading that began then: the next one is due after the pause, or when somebody asked for one since.

    Its lease goes on for as long as its requests have to last: nobody can hurry readings beyond the budget.
    """
    rows = Connection.objects.filter(pk=connection.pk)
    rows.update(refresh_lease_until=begun + timedelta(seconds=made.requests / settings.API_POLLS_PER_SECOND), **facts)
    rows.filter(refresh_due_at=begun).update(refresh_due_at=clock.now() + pause)


def _read(connection: Connection, now: datetime, made: Made) -> timedelta:
    """Read with the first key that the API takes, and return the pause before the next reading.

    Raises ApiError or Sealed if there is no such key, or the read fails.
    """
    refused: Exception = errors.KeyRejected(
        "Nobody in the team has stored a key that may read this API. See the Keys page."
    )
    for key in reading_keys(connection):
        try:
            with client_for(key) as client, made.by(client):
                pause = _read_with(client, connection, now)
        except (errors.KeyRejected, Sealed) as error:
            refused = error
            flag(key, str(error), errors.answer_of(error))
        else:
            flag(key, "")
            return pause
    raise refused


def _read_with(client: EnginesClient, connection: Connection, now: datetime) -> timedelta:
    watched, paid = list(_watched(connection)), list(_paid(connection, now))
    fleet = Engine.objects.of(connection.team).filter(connection=connection).count()
    pages = max(1, -(-fleet // PAGE))
    full_due = not fleet or connection.refreshed_at is None or now - connection.refreshed_at >= FULL_PASS
    if full_due or len(watched) + len(paid) > pages:
        _full_pass(connection, client)
    else:
        _look_at(connection, client, [*(operation.engine for operation in watched if operation.engine), *paid])
    if client.ahead is not None:
        connection.skew = round(client.ahead)
    # Somebody waits for the first engine, in front of an empty page.
    return _rhythm(watched, now) if fleet else EMPTY_PASS


def look_soon(connection: Connection, now: datetime) -> None:
    """Have the connection read within a second, as something there is about to change; not while reading it fails."""
    later = Q(refresh_due_at__gt=now + SOON) | Q(refresh_lease_until__gt=now)  # or under way: then once more
    rows = Connection.objects.filter(later, pk=connection.pk, failing_since__isnull=True)
    rows.update(refresh_due_at=now + SOON)


def _rhythm(watched: list[Operation], now: datetime) -> timedelta:
    if not watched:
        return FULL_PASS
    return WATCH if any(now - operation.requested_at < OLD for operation in watched) else WATCH_OLD


def _watched(connection: Connection) -> Iterable[Operation]:
    rows = Operation.objects.of(connection.team).filter(engine__connection=connection, state__in=OPEN)
    rows = rows.exclude(verb__in=MONEY)  # read on a schedule of its own
    return rows.exclude(QUEUED).select_related("engine")


def _paid(connection: Connection, now: datetime) -> Iterable[Engine]:
    """Return the engines that were paid for since the last whole pass: their rows say the former end."""
    booked = LedgerEntry.objects.of(connection.team).filter(at__gte=connection.refreshed_at or now)
    return Engine.objects.of(connection.team).filter(connection=connection, uid__in=booked.values("engine_uid"))


def _full_pass(connection: Connection, client: EnginesClient) -> None:
    begun = clock.now()
    seen: set[str] = set()
    for page in client.all(limit=PAGE):
        read_at = clock.now()
        if not seen:
            _note_gap(connection, read_at)
        items = [item for item in page["items"] if item.get("id")]
        apply(connection, _asked_again(connection, client, items), read_at=begun)
        seen |= {item["id"] for item in items}
        Connection.objects.filter(pk=connection.pk).update(refresh_lease_until=read_at + LEASE)
    _note_missing(connection, client, seen, begun)
    Connection.objects.filter(pk=connection.pk).update(refreshed_at=begun)
    publish(connection.team_id, "engines")


def _note_gap(connection: Connection, now: datetime) -> None:
    """Say on the timeline of what was under way when nobody could see it: no time of what happened then is invented."""
    since = connection.refreshed_at
    if since is None or now - since < GAP:
        return
    begun = f"Not observed {since:%d %b %H:%M}–"
    rows = Operation.objects.of(connection.team).filter(engine__connection=connection, state__in=WATCHED)
    unseen = rows.filter(requested_at__lt=since).exclude(verb__in=MONEY).exclude(moments__text__startswith=begun)
    text = f"{begun}{now:%H:%M} UTC." if since.date() == now.date() else f"{begun}{now:%d %b %H:%M} UTC."
    Moment.objects.bulk_create(Moment(operation=each, at=now, state=each.state, text=text) for each in unseen)


def _asked_again(connection: Connection, client: EnginesClient, items: list[wire.Engine]) -> list[wire.Engine]:
    """A list may lag behind: an engine that came back from leaving is asked for by itself before that is believed."""
    running = [item["id"] for item in items if item.get("status") == EngineStatus.RUNNING]
    rows = Engine.objects.of(connection.team).filter(connection=connection, uid__in=running, status__in=LEAVING)
    doubted = dict.fromkeys(rows.values_list("uid", flat=True))
    for uid in doubted:
        with suppress(errors.ApiError):  # it stays as it was last read; the next pass asks again
            doubted[uid] = client.get(uid)
    return [found for item in items if (found := doubted.get(item["id"], item))]


def _note_missing(connection: Connection, client: EnginesClient, seen: set[str], now: datetime) -> None:
    """An engine that one pass did not list may have slipped between two pages: ask for it before believing it."""
    rows = Engine.objects.of(connection.team).filter(connection=connection).exclude(status="deleted")
    missing = [engine for engine in rows.only("pk", "uid", "missing_since") if engine.uid not in seen]
    back = rows.filter(missing_since__isnull=False).exclude(pk__in=[engine.pk for engine in missing])
    back.update(missing_since=None)
    first = [engine.pk for engine in missing if engine.missing_since is None]
    Engine.objects.of(connection.team).filter(pk__in=first).update(missing_since=now)
    _look_at(connection, client, [engine for engine in missing if engine.missing_since is not None])


def _look_at(connection: Connection, client: EnginesClient, engines: list[Engine]) -> None:
    for engine in engines:
        begun = clock.now()
        try:
            apply(connection, [client.get(engine.uid)], read_at=begun)
        except errors.EngineGone:
            _gone(connection, engine.uid, begun)


def _gone(connection: Connection, uid: str, now: datetime) -> None:
    engine = Engine.objects.of(connection.team).get(connection=connection, uid=uid)
    apply(connection, [{**engine.wire, "id": uid, "status": "deleted", "workers": []}], read_at=now)


def apply_one(connection: Connection, dto: wire.Engine, read_at: datetime) -> Engine:
    """Save one reading and return the engine's row."""
    apply(connection, [dto], read_at=read_at)
    return Engine.objects.of(connection.team).get(connection=connection, uid=dto["id"])


def apply(connection: Connection, dtos: Iterable[Any], *, read_at: datetime) -> int:
    """Save a page of readings; return how many rows were written. Settles the open operations of these engines.

    Only rows whose content changed are written. A reading older than what is stored is ignored, by either clock.
    """
    by_uid = {dto["id"]: dto for dto in dtos}
    with transaction.atomic():
        known = {engine.uid: engine for engine in _stored(connection, list(by_uid))}
        differ = [dto for uid, dto in by_uid.items() if uid not in known or known[uid].fingerprint != fingerprint(dto)]
        said = _said([known[dto["id"]] for dto in differ if dto["id"] in known])
        written = [_save(connection, known.get(dto["id"]), dto, said, read_at) for dto in differ]
    _settle_all(connection, list(by_uid), read_at)
    changed = [uid for uid in written if uid]
    if changed:
        publish(connection.team_id, "engines", *(f"engine:{uid}" for uid in changed))
    return len(changed)


def _stored(connection: Connection, uids: list[str]) -> Iterable[Engine]:
    rows = Engine.objects.of(connection.team).filter(connection=connection, uid__in=uids)
    # Locked, always in one order: of two readings at once, the older must not be written over the newer.
    return rows.select_for_update(no_key=True).order_by("pk").defer("wire")


class Said(NamedTuple):
    """What an API said of an engine in the reading that is stored: its own time of it, and whose the engine is."""

    at: datetime | None
    owner: str | None


def _said(engines: list[Engine]) -> dict[str, Said]:
    """Return it by the engines' ids, without reading the whole rows."""
    if not engines:
        return {}
    rows = Engine.objects.of(engines[0].team).filter(pk__in=[engine.pk for engine in engines])
    found = rows.values_list("uid", KeyTextTransform("updated_at", "wire"), KeyTextTransform("team_id", "wire"))
    return {uid: Said(moment(at), owner) for uid, at, owner in found}


def _save(connection: Connection, engine: Engine | None, dto: Any, said: dict[str, Said], read_at: datetime) -> str:
    """Write the row if it is new or differs; return its uid then, else ""."""
    if engine is not None:
        before = said[engine.uid]
        if before.owner and (dto.get("team_id") or before.owner) != before.owner:
            # Another team has it at the API: it is known by id and team, and no operation here is about theirs.
            dto = {"id": engine.uid, "name": engine.name, "status": "deleted", "workers": [], "team_id": before.owner}
        if engine.fingerprint == fingerprint(dto) or _is_older(dto, read_at, engine, before.at):
            return ""
    return _write(connection, engine, dto, read_at)


def _is_older(dto: Any, read_at: datetime, engine: Engine, known: datetime | None) -> bool:
    """Whether the row has newer values: by our clock, or for a while by the API's, whose answers may lag behind."""
    if engine.observed_at > read_at:
        return True
    said = moment(dto.get("updated_at"))
    return bool(said and known and said < known) and read_at - engine.observed_at < LAG


def _write(connection: Connection, engine: Engine | None, dto: Any, read_at: datetime) -> str:
    before = engine.status if engine else ""
    engine = engine or Engine(team=connection.team, connection=connection, uid=dto["id"])
    for name, value in columns(dto, read_at).items():
        setattr(engine, name, value)
    engine.fingerprint, engine.observed_at, engine.missing_since = fingerprint(dto), read_at, None
    if before != engine.status:
        engine.changed_at = read_at
    engine.save()
    if before != engine.status:
        _history(engine, before, read_at)
    return engine.uid


def _history(engine: Engine, before: str, at: datetime) -> None:
    rows = Operation.objects.of(engine.team).filter(engine=engine, state__in=OPEN)
    operation = rows.exclude(verb=Verb.EXTEND).exclude(QUEUED).first()  # paid time changes no status
    Change.objects.create(
        team=engine.team, engine=engine, at=at, before=before, after=engine.status, operation=operation
    )


def _settle_all(connection: Connection, uids: list[str], read_at: datetime) -> None:
    rows = Operation.objects.of(connection.team).filter(
        engine__connection=connection, engine__uid__in=uids, state__in=OPEN
    )
    for operation in rows.select_related("team", "engine__connection", "requested_by"):
        settle(operation, operation.its_engine, read_at=read_at, now=clock.now())


def columns(dto: Any, read_at: datetime) -> dict[str, Any]:
    """Return the columns that lists filter and sort by, from the contract's Engine."""
    workers = [worker for worker in dto.get("workers") or [] if worker]
    gpus = [gpu for worker in workers for gpu in worker.get("gpus") or []]
    return {
        "name": (dto.get("name") or dto["id"])[:200],
        "status": (dto.get("status") or "unknown")[:40],
        "version": (dto.get("engine_version") or "")[:60],
        "hostname": ((dto.get("system_info") or {}).get("hostname") or "")[:200],
        "gpu": (gpus[0].get("name") or gpus[0].get("type") or "")[:100] if gpus else "",
        "cloud": ((dto.get("instance") or {}).get("cloud") or "")[:60],
        "workers_total": len(workers),
        "workers_busy": sum(bool(worker.get("task_id")) for worker in workers),
        "created_at": moment(dto.get("created_at")) or read_at,
        "wire": dto,
    }


def fingerprint(dto: Any) -> str:
    """Return a mark that changes when anything but a meter reading does."""
    return hashlib.blake2b(json.dumps(_stable(dto), sort_keys=True).encode(), digest_size=16).hexdigest()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stable(item) for name, item in value.items() if name not in METERS}
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return value


def _failed(connection: Connection, error: errors.ApiError | Sealed, begun: datetime, made: Made) -> None:
    since = connection.failing_since or begun
    pause = min(LONGEST_PAUSE, timedelta(seconds=2) + (begun - since) / 2)
    pause *= random.uniform(1.0, 1.1)  # noqa: S311 (spreads the teams that lost one API at the same moment)
    asked = timedelta(seconds=getattr(error, "retry_after", None) or 0.0)
    said = {"last_error": str(error)[:300], "last_answer": errors.answer_of(error)}
    _free(connection, begun, max(pause, asked), made, **said, failing_since=since)
    log.warning("cannot read %s: %s", connection.base_url, error)
    publish(connection.team_id, "engines")
