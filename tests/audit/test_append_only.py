"""The database itself refuses to change what was written."""

import pytest
from django.db import IntegrityError, connection, transaction

from portal.audit.models import Entry, Seal
from portal.audit.verify import verify

pytestmark = pytest.mark.django_db

SQLITE = connection.vendor == "sqlite"
on_sqlite = pytest.mark.skipif(not SQLITE, reason="its words are SQLite's")
on_postgresql = pytest.mark.skipif(SQLITE, reason="its words are PostgreSQL's")


def refused(statement):
    with (
        pytest.raises(IntegrityError, match="the audit log is append-only"),
        transaction.atomic(),
        connection.cursor() as c,
    ):
        c.execute(statement)
    return True


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET reason = 'another' WHERE number = 3",
        "UPDATE audit_entry SET reason = reason",
        "DELETE FROM audit_entry WHERE number = 5",
        "DELETE FROM audit_entry",
    ],
)
def test_an_entry_can_be_neither_changed_nor_deleted(log, statement):
    assert refused(statement)
    assert verify(log) == (5, None)


@on_postgresql
@pytest.mark.parametrize("table", ["audit_entry", "audit_seal"])
def test_the_log_cannot_be_emptied_at_once(log, table):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at a commit: else the table is in use
    assert refused(f"TRUNCATE {table} CASCADE")


@on_postgresql
def test_a_session_that_plays_the_replica_is_refused_too(log):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
    assert refused("UPDATE audit_entry SET reason = 'another'")


@on_sqlite
@pytest.mark.parametrize("kept", ["id", "number"])
def test_an_entry_cannot_be_replaced(log, kept):
    names = [field.column for field in Entry._meta.fields]
    values = {name: name for name in names} | {"id": "9999", "number": "9999", "reason": "'another'"} | {kept: kept}
    assert refused(
        f"INSERT OR REPLACE INTO audit_entry ({', '.join(names)}) SELECT {', '.join(values[name] for name in names)}"
        " FROM audit_entry WHERE number = 3"
    )
    assert verify(log) == (5, None)


def test_a_seal_can_be_neither_changed_nor_deleted(log):
    seal(log, 1, 2)
    assert refused("UPDATE audit_seal SET last = 5")
    assert refused("DELETE FROM audit_seal")


def test_only_what_a_seal_covers_can_be_deleted(log):
    seal(log, 1, 2)
    assert refused("DELETE FROM audit_entry WHERE number = 3")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_entry WHERE number <= 2")
    assert list(Entry.objects.order_by("number").values_list("number", flat=True)) == [3, 4, 5]


def test_a_seal_covers_nothing_of_another_team(log, other_team):
    seal(other_team, 1, 5)
    assert refused("DELETE FROM audit_entry WHERE number = 1")


def seal(team, first, last):
    at = Entry.objects.first().at
    return Seal.objects.create(team=team, first=first, last=last, at=at)
