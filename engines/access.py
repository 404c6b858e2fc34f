"""Who may reach an engine, and with whose key."""

from collections.abc import Iterable
from functools import partial

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404

from engines.api.client import EnginesClient
from engines.api.errors import ApiError, KeyRejected, answer_of
from engines.models import Engine, Operation
from engines.operations.verbs import VERBS, behind, blocker, waits_for
from portal.accounts.access import may
from portal.http import PortalRequest
from portal.logs import request_id as current_request_id
from portal.vault.addresses import may_reach
from portal.vault.keys import Sealed, Secret, current_keys, flag, unseal
from portal.vault.models import Connection, StoredKey

READS = ("engines:read", "engines:write", "*")
WRITES = ("engines:write", "*")


def engine_for(request: PortalRequest, uid: str) -> Engine:
    """Return the team's engine, or raise Http404, for outsiders too: nobody learns which ids exist."""
    if "\0" in uid:  # PostgreSQL takes no question with a NUL in it
        raise Http404
    rows = Engine.objects.of(request.team).filter(uid=uid).select_related("connection", "team")
    found = rows.order_by("pk").first()  # two connections to one API list the same engine twice
    if found is None:
        raise Http404
    return found


def operation_for(request: PortalRequest, pk: object) -> Operation:
    """Return the team's operation, or raise Http404."""
    rows = Operation.objects.of(request.team).select_related("team", "engine__connection", "new_at", "requested_by")
    return get_object_or_404(rows, pk=pk)


def key_of(request: PortalRequest, connection: Connection) -> StoredKey | None:
    """Return the person's own key to the connection."""
    return current_keys(request.team).filter(connection=connection, user=request.user).first()


def reading_keys(connection: Connection) -> QuerySet[StoredKey]:
    """Return the keys that may read the connection for the whole team, those that work first."""
    members = connection.team.memberships.filter(user__is_active=True).values("user")
    keys = current_keys(connection.team).filter(connection=connection, user__in=members)
    readers = [key.pk for key in keys if set(key.scopes) & set(READS)]
    return keys.filter(pk__in=readers).order_by("last_error", "-checked_at", "pk")


def client_for(key: StoredKey, *, request_id: str = "", timeout: float = 10.0) -> EnginesClient:
    """Open a client with this key. Raises `portal.vault.keys.Sealed` if the key cannot be unsealed."""
    return client_to(key.connection, unseal(key), request_id=request_id, timeout=timeout)


def client_to(connection: Connection, secret: Secret, *, request_id: str = "", timeout: float = 10.0) -> EnginesClient:
    """Open a client with a key that is not stored yet."""
    url = connection.base_url
    return EnginesClient(
        base_url=url,
        key=secret,
        request_id=request_id or current_request_id.get(),
        timeout=timeout,
        may_reach=partial(may_reach, secure=url.startswith("https:")),
    )


def note_refusal(key: StoredKey, error: ApiError | Sealed) -> None:
    """Flag the key if the API no longer takes it. (403: it may do other things than this.)"""
    if isinstance(error, KeyRejected) and error.status == 401:
        flag(key, str(error), answer_of(error))


def why_not(
    verb: str,
    engine: Engine,
    *,
    role: str,
    key: StoredKey | None,
    opened: Iterable[Operation],
    may_wait: bool = False,
) -> str:
    """Say why this person cannot ask this of this engine now; "" if they can.

    `opened` are the open operations on it. `may_wait`: an engine that is offline may be asked when it is back, and what
    can be queued behind another operation when that has ended.
    """
    if not may(role, f"engine-{verb}"):
        return f"Your role ({role.title()}) may not {verb} engines. Ask an admin of the team."
    opened = list(opened)
    queues = may_wait and behind(verb, opened) is not None
    if not queues and (busy := blocker(verb, opened)):
        return _under_way(busy, opened if busy.verb in VERBS[verb].queues_behind else [])
    if not queues and not (may_wait and waits_for(verb, engine)) and (refusal := VERBS[verb].refusal(engine)):
        return refusal
    if key is None:
        return "You have no key for this API yet. Add one on the Keys page."
    if key.last_error:
        return "Your key is refused by the API. Replace it on the Keys page."
    if not set(key.scopes) & set(WRITES):
        return f"Your key “{key.label}” lacks the scope engines:write. Replace it on the Keys page."
    return ""


def _under_way(busy: Operation, opened: list[Operation]) -> str:
    then = next((each for each in opened if each.is_queued and each != busy), None)
    queued = f", and {then.get_verb_display().lower()} by {then.requested_name} waits behind it" if then else ""
    return f"{busy.get_verb_display()} by {busy.requested_name} is under way{queued}."
