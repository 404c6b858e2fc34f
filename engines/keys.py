"""What a person's key can do, what it is used for, and how it ends."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Q

from engines.access import READS, WRITES, client_for, reading_keys
from engines.api import errors
from engines.api.client import EnginesClient
from engines.enums import OPEN
from engines.models import Operation, Proposal
from portal.accounts.models import User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.vault.keys import remove
from portal.vault.models import StoredKey

REVOKES = ("apikeys:write", "*")
# What people come for, the scopes that allow it, and the reading that is tried for it, if there is one.
ABILITIES = (
    ("See engines", READS, ""),
    ("Drain, update, restart, stop and extend engines", WRITES, ""),
    ("See the balance before buying cloud time", ("billing:read", "billing:write", "*"), "balance"),
    ("Make and revoke keys", REVOKES, ""),
)
# An operation that somebody was about to ask for when the key was rotated out still finds it.
GRACE = timedelta(minutes=1)


@dataclass(frozen=True)
class Examined:
    """What the API says of a key. `uid` is the API's own id of it, "" if it does not say."""

    scopes: list[str]
    refused_reads: list[str]
    uid: str


def examine(client: EnginesClient) -> Examined:
    """Ask the API what the key may do, and try what can be tried without changing anything.

    Raises ApiError if the API refuses the key or does not answer. One that does not say (no list of scopes) has let the
    reads pass: the rest shows when the key is used.
    """
    found: Any = client.me()
    client.list(limit=1)
    refused = []
    try:
        client.balance()
    except errors.KeyRejected:
        refused.append("balance")
    except errors.ApiError:
        pass  # an API without a balance says nothing about the key
    about = found.get("key") or found.get("api_key") or {}
    scopes = about.get("scopes", found.get("scopes"))
    uid = about.get("id")
    return Examined([str(scope) for scope in scopes] if scopes else ["*"], refused, uid if isinstance(uid, str) else "")


def abilities(key: StoredKey) -> list[dict[str, Any]]:
    """Return what the key can be used for, as its scopes say and as trying it showed."""
    found, scopes = [], set(key.scopes)
    for label, some, read in ABILITIES:
        why_not = ""
        if read in key.refused_reads:
            why_not = "the API refused it when it was tried"
        elif not scopes & set(some):
            why_not = f"needs {some[0]}"
        found.append({"label": label, "allowed": not why_not, "why_not": why_not})
    return found


def last_use(key: StoredKey) -> Operation | None:
    """Return what was last sent with the key."""
    rows = Operation.objects.of(key.team).filter(key=key, key_label=str(key), sent_at__isnull=False)
    return rows.order_by("-sent_at").first()


def open_with(key: StoredKey) -> int:
    """Return how many operations that were asked with the key are not finished."""
    return Operation.objects.of(key.team).filter(key=key, state__in=OPEN).count()


def reads_for_team(key: StoredKey) -> bool:
    """Say whether the fleet is read with this key, for the whole team."""
    first = reading_keys(key.connection).first()
    return first is not None and first.pk == key.pk


def may_revoke_at_api(key: StoredKey) -> bool:
    return not key.last_error and bool(set(key.scopes) & set(REVOKES))


def revoke_at_api(key: StoredKey, *, by: User, origin: Origin) -> None:
    """Have the API refuse the key from now on. Audited as key.revoked, whatever comes of it.

    A key that the API refuses already is no error. Raises ApiError if it is not certain that the key is revoked, and
    Sealed.
    """
    tell = partial(record, team=key.team, actor=by, action="key.revoked", target=key, origin=origin)
    with client_for(key) as client:
        try:
            with suppress(_Revoked):
                _revoke(client)
        except errors.ApiError as error:
            unclear = isinstance(error, errors.NoAnswer | errors.BadAnswer)
            tell(outcome="unknown" if unclear else "refused", said=str(error))
            raise
    tell()


class _Revoked(Exception):
    """The API does not take the key any more."""


def _revoke(client: EnginesClient) -> None:
    try:
        uid = client.me().get("key", {}).get("id")
        if not isinstance(uid, str):
            raise errors.Refused("The API does not say which key this is. Revoke it where you manage the API's keys.")
        client.revoke_key(uid)
    except errors.KeyRejected as error:
        if error.status == 401:
            raise _Revoked from None
        raise


def due_for_removal(now: datetime) -> Iterator[Callable[[], None]]:
    """Yield a job for each key that was rotated out and that nothing waits for any more."""
    running = Operation.objects.filter(state__in=OPEN, key__isnull=False).values("key")
    asked = Proposal.objects.filter(state=Proposal.State.WAITING, expires_at__gt=now, key__isnull=False).values("key")
    done = StoredKey.objects.filter(retired_at__lte=now - GRACE).exclude(Q(pk__in=running) | Q(pk__in=asked))
    for key in done.select_related("team", "user", "connection"):
        yield partial(remove, key, by=None, reason="It was rotated out, and what was asked with it is finished.")
