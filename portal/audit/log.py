"""The only writer of the audit log: an entry is part of the transaction of what it tells of."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _q
from typing import Any

from django.db import models, transaction

from portal import clock
from portal.accounts.models import Team, User
from portal.audit.models import Entry, Head
from portal.audit.origin import Origin
from portal.live.bus import publish
from portal.wake import wake_after_commit

SECRET_WORDS = ("secret", "password", "token", "api_key", "authorization", "sealed")
CHECKPOINT_ENTRIES = 1000
AT_ONCE = 500  # entries in one statement
# What is hashed, with the team, in the order of canonical JSON.
HASHED = (
    "action", "actor_id", "actor_name", "address", "after", "at", "before", "detail", "number", "operation_id",
    "outcome", "reason", "request_id", "role", "target_id", "target_name", "target_type",
)  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What one entry says, beside who did it. `before`, `after` and `detail` must be JSON."""

    action: str
    target: models.Model
    origin: Origin = field(default_factory=Origin)
    reason: str = ""
    outcome: str = "ok"
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    operation_id: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


def record(
    *,
    team: Team,
    actor: User | None,
    action: str,
    target: models.Model,
    origin: Origin | None = None,
    reason: str = "",
    outcome: str = "ok",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    operation_id: str = "",
    **detail: object,
) -> Entry:
    """Append one entry to the team's chain, in the caller's transaction: no change, no entry, and the other way round.

    `actor` None is the system. `before`, `after` and `detail` must be JSON. A name that looks like a secret is refused
    with ValueError rather than masked, so that the mistake is found in a test.
    """
    note = Note(
        action, target, origin or Origin(), reason, outcome, before or {}, after or {}, operation_id, dict(detail)
    )
    return record_all([note], team=team, actor=actor)[0]


@transaction.atomic(savepoint=False)
def record_all(notes: Iterable[Note], *, team: Team, actor: User | None) -> list[Entry]:
    """Append an entry for each note, in their order: as `record`, and in a few statements however many they are."""
    head = _locked(team)
    # Never before the entry before it, whatever the clock did: a period of time is a run of numbers.
    now = max(clock.now(), head.at) if head.at else clock.now()
    full = head.number // CHECKPOINT_ENTRIES
    entries = []
    for note in notes:
        entry = _entry(note, head, team, actor, now)
        head.number, head.hash, head.at = entry.number, entry.hash, entry.at
        entries.append(entry)
    Entry.objects.bulk_create(entries, batch_size=AT_ONCE)
    head.save(update_fields=["number", "hash", "at"])
    publish(team.pk, "audit")
    if head.number // CHECKPOINT_ENTRIES > full:
        from portal.audit.tasks import checkpoint

        wake_after_commit(checkpoint)
    return entries


def _entry(note: Note, head: Head, team: Team, actor: User | None, now: datetime) -> Entry:
    for name in _names([note.detail, note.before, note.after]):
        if any(word in name.lower() for word in SECRET_WORDS):
            raise ValueError(f"{name!r} does not belong in the audit log")
    entry = Entry(
        team=team,
        number=head.number + 1,
        at=now,
        actor=actor,
        actor_name=str(actor)[:150] if actor else "system",
        role=note.origin.role,
        address=note.origin.address,
        action=note.action,
        target_type=note.target._meta.label_lower,
        target_id=str(getattr(note.target, "uid", note.target.pk)),
        target_name=_kept(str(note.target))[:200],
        reason=_kept(note.reason)[:500],
        outcome=note.outcome,
        before=_kept(note.before),
        after=_kept(note.after),
        detail=_kept(note.detail),
        request_id=note.origin.request_id,
        operation_id=note.operation_id,
        prev_hash=head.hash,
    )
    entry.hash = digest(entry)
    return entry


def _locked(team: Team) -> Head:
    """The end of the chain, nobody else's until the transaction ends."""
    locked = Head.objects.select_for_update()
    head = locked.filter(team=team).first()
    if head is None:
        Head.objects.get_or_create(team=team)
        head = locked.get(team=team)
    return head


def digest(entry: Entry) -> str:
    """SHA-256 of the previous entry's hash and this entry's canonical JSON."""
    return chained(entry.prev_hash, text_of(entry))


def text_of(entry: Entry) -> str:
    """The entry's canonical JSON."""
    values = [getattr(entry, name) for name in HASHED]
    for place in (4, 6, 7):
        values[place] = _compact(values[place])
    values[5] = entry.at.isoformat()
    return canonical(values, entry.team_id)


def chained(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}{text}".encode()).hexdigest()


def canonical(values: Sequence[Any], team_id: int) -> str:
    """The JSON that is hashed: sorted names, no spaces, ASCII. `values` are those of HASHED; `before`, `after` and
    `detail` come as JSON of that kind, `at` as ISO 8601 in UTC."""
    # By hand: this is where checking a long log spends its time.
    action, actor_id, actor_name, address, after, at, before, detail, number = values[:9]
    operation_id, outcome, reason, request_id, role, target_id, target_name, target_type = values[9:]
    return (
        f'{{"action":{_q(action)},"actor_id":{"null" if actor_id is None else actor_id},"actor_name":{_q(actor_name)},'
        f'"address":{_q(address)},"after":{after},"at":"{at}","before":{before},"detail":{detail},"number":{number},'
        f'"operation_id":{_q(operation_id)},"outcome":{_q(outcome)},"reason":{_q(reason)},'
        f'"request_id":{_q(request_id)},"role":{_q(role)},"target_id":{_q(target_id)},'
        f'"target_name":{_q(target_name)},"target_type":{_q(target_type)},"team":{team_id}}}'
    )


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@lru_cache(4096)
def recompacted(text: str) -> str:
    """The same for JSON as a database gives it back."""
    return "{}" if text == "{}" else _compact(json.loads(text))


def _names(value: Any) -> Iterator[str]:
    """Every name in the value, however deep."""
    if isinstance(value, dict):
        yield from (str(name) for name in value)
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _names(inner)


def _kept(value: Any) -> Any:
    """The value as both databases give it back, to the byte: what they would change would break the chain.

    PostgreSQL takes no NUL, and writes a float's digits its own way.
    """
    if isinstance(value, dict):
        return {_kept(str(name)): _kept(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(inner) for inner in value]
    if isinstance(value, float):
        return str(value)
    return value.replace("\0", "") if isinstance(value, str) else value
