"""On PostgreSQL the portal's account need not own the log: the statements of docs/production.md, held as they are."""

import re
from pathlib import Path

import pytest
from django.db import ProgrammingError, connection, transaction

from portal.audit.models import Entry
from portal.audit.verify import verify
from tests.audit.conftest import write

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor == "sqlite", reason="a file has one owner"),
]
DOCS = (Path(__file__).resolve().parents[2] / "docs/production.md").read_text()
STATEMENTS = re.findall(r"^    ((?:GRANT|REVOKE) [^;]+;)$", DOCS, re.MULTILINE)


@pytest.fixture
def as_the_portal(log):
    """The portal's account, which owns nothing; its role goes with the test's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("CREATE ROLE portal_of_a_test")
        for statement in STATEMENTS:
            cursor.execute(re.sub(r"\b(TO|FROM) portal;", r"\1 portal_of_a_test;", statement))
        cursor.execute("SET LOCAL ROLE portal_of_a_test")
    return log


def test_the_docs_have_all_of_them():
    assert len(STATEMENTS) == 5


def test_entries_are_added_and_read(as_the_portal, ada):
    write(as_the_portal, ada, count=1)
    assert verify(as_the_portal) == (6, None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET reason = 'another'",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry CASCADE",
        "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_entry_no_update ON audit_entry",
        "SET session_replication_role = replica",
        "INSERT INTO audit_seal (team_id, first, last, at) SELECT team_id, 1, 5, at FROM audit_entry WHERE number = 1",
        "UPDATE engines_ledgerentry SET cost = 0",
        "DELETE FROM engines_ledgerentry",
        "ALTER TABLE engines_ledgerentry DISABLE TRIGGER ALL",
    ],
)
def test_nothing_else_is_permitted(as_the_portal, statement):
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert Entry.objects.count() == 5
