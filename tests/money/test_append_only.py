"""The database itself refuses to change what was booked, to its owner too."""

import pytest
from django.db import IntegrityError, connection, transaction

from engines.models import LedgerEntry
from tests.money.conftest import NOON

pytestmark = pytest.mark.django_db

SQLITE = connection.vendor == "sqlite"


@pytest.fixture
def api():
    """Nobody is asked here."""


@pytest.fixture
def entry(acme):
    facts = {"at": NOON, "sent_at": NOON, "before": NOON, "hours": 3, "price": 250, "cost": 750_000_000}
    return LedgerEntry.objects.create(team=acme, operation_id="6e2c0b5e-0000-4000-8000-000000000001", **facts)


def refused(statement):
    with (
        pytest.raises(IntegrityError, match="the ledger is append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    return LedgerEntry.objects.get().cost == 750_000_000


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE engines_ledgerentry SET cost = 1",
        "UPDATE engines_ledgerentry SET cost = cost",
        "DELETE FROM engines_ledgerentry",
    ],
)
def test_an_entry_can_be_neither_changed_nor_deleted(entry, statement):
    assert refused(statement)


@pytest.mark.skipif(SQLITE, reason="SQLite has no TRUNCATE")
def test_the_ledger_cannot_be_emptied_at_once(entry):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at a commit: else the table is in use
    assert refused("TRUNCATE engines_ledgerentry")


@pytest.mark.skipif(SQLITE, reason="SQLite has no replicas")
def test_a_session_that_plays_the_replica_is_refused_too(entry):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
    assert refused("UPDATE engines_ledgerentry SET cost = 1")


@pytest.mark.skipif(not SQLITE, reason="its words are SQLite's")
@pytest.mark.parametrize("kept", ["id", "operation_id"])
def test_an_entry_cannot_be_replaced(entry, kept):
    names = [field.column for field in LedgerEntry._meta.fields]
    changes = {"id": "99", "operation_id": "'another'", "cost": "1"} | {kept: kept}
    values = ", ".join(changes.get(name, name) for name in names)
    assert refused(
        f"INSERT OR REPLACE INTO engines_ledgerentry ({', '.join(names)}) SELECT {values} FROM engines_ledgerentry"
    )
