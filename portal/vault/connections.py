"""A team's connections: each change is one transaction with its audit entry."""

from typing import Any

from django.db import transaction

from portal.accounts.models import Team, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.vault.keys import remove as remove_key
from portal.vault.models import Connection, StoredKey


class Taken(Exception):
    """The team has a connection to this address already."""


@transaction.atomic
def add(team: Team, name: str, url: str, *, by: User | None, origin: Origin | None = None) -> Connection:
    """Add a connection to an address that `addresses.checked` returned. Raises Taken."""
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    _free(team, url)
    connection = Connection.objects.create(team=team, name=name, base_url=url)
    _record(connection, "connection.added", by, origin, after={"name": name, "address": url})
    return connection


@transaction.atomic
def change(connection: Connection, name: str, url: str, *, by: User, origin: Origin) -> int:
    """Give the connection another name or address; return how many keys were dropped. Raises Taken.

    Another address drops all its keys: they were entrusted to the old one.
    """
    Team.objects.select_for_update(no_key=True).get(pk=connection.team_id)
    row = Connection.objects.select_for_update().get(pk=connection.pk)
    before = {"name": row.name, "address": row.base_url}
    after = {"name": name, "address": url}
    if after == before:
        return 0
    dropped = 0
    if url != row.base_url:
        _free(row.team, url)
        dropped = _drop_keys(row, by, origin, "The connection leads to another address now.")
        # What was read came from the old address: read the new one anew, and say nothing of the old one's failures.
        row.refreshed_at = row.refresh_due_at = row.failing_since = None
        row.last_error, row.last_answer = "", {}
    row.name, row.base_url = name, url
    row.save()
    _record(row, "connection.changed", by, origin, before=before, after=after, keys_dropped=dropped)
    return dropped


@transaction.atomic
def remove(connection: Connection, *, by: User, origin: Origin, **detail: Any) -> None:
    """Delete the connection with its keys and all that was read through it. The audit log and the ledger stay."""
    before = {"name": connection.name, "address": connection.base_url}
    _drop_keys(connection, by, origin, "The connection was removed.")
    _record(connection, "connection.removed", by, origin, before=before, **detail)
    connection.delete()


def _drop_keys(connection: Connection, by: User, origin: Origin, reason: str) -> int:
    keys = StoredKey.objects.of(connection.team).filter(connection=connection)
    dropped = list(keys.select_related("connection", "team", "user"))
    for key in dropped:
        remove_key(key, by=by, origin=origin, reason=reason)
    return len(dropped)


def _free(team: Team, url: str) -> None:
    if Connection.objects.of(team).filter(base_url=url).exists():
        raise Taken(f"{team} has a connection to {url} already.")


def _record(connection: Connection, action: str, by: User | None, origin: Origin | None, **facts: Any) -> None:
    record(team=connection.team, actor=by, action=action, target=connection, origin=origin, **facts)
