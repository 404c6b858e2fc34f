"""The only writer of the audit log: an entry is part of the transaction of what it tells of."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from portal.accounts.models import Team, User
from portal.audit.models import Entry, Head
from portal.audit.origin import Origin
from portal.live.bus import publish

SECRET_WORDS = ("secret", "password", "token", "api_key", "authorization", "sealed")
HASHED = (
    "number", "at", "actor_id", "actor_name", "role", "address", "action", "target_type", "target_id", "target_name",
    "reason", "outcome", "before", "after", "detail", "request_id", "operation_id",
)  # fmt: skip


@transaction.atomic
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
    for name in _names([detail, before, after]):
        if any(word in name.lower() for word in SECRET_WORDS):
            raise ValueError(f"{name!r} does not belong in the audit log")
    origin = origin or Origin()
    Head.objects.get_or_create(team=team)
    head = Head.objects.select_for_update().get(team=team)
    entry = Entry(
        team=team,
        number=head.number + 1,
        at=timezone.now(),
        actor=actor,
        actor_name=str(actor)[:150] if actor else "system",
        role=origin.role,
        address=origin.address,
        action=action,
        target_type=target._meta.label_lower,
        target_id=str(getattr(target, "uid", target.pk)),
        target_name=_kept(str(target))[:200],
        reason=_kept(reason)[:500],
        outcome=outcome,
        before=_kept(before or {}),
        after=_kept(after or {}),
        detail=_kept(detail),
        request_id=origin.request_id,
        operation_id=operation_id,
        prev_hash=head.hash,
    )
    entry.hash = digest(entry)
    entry.save(force_insert=True)
    head.number, head.hash = entry.number, entry.hash
    head.save(update_fields=["number", "hash"])
    publish(team.pk, "audit")
    return entry


def digest(entry: Entry) -> str:
    """SHA-256 of the previous entry's hash and this entry's canonical JSON."""
    fields = {name: getattr(entry, name) for name in HASHED} | {"team": entry.team_id, "at": entry.at.isoformat()}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{entry.prev_hash}{text}".encode()).hexdigest()


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
