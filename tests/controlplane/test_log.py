"""The length that SQLite's log gets at the start."""

import pytest
from django.db import connections

from engines.controlplane.database import lengthen_log

sqlite_only = pytest.mark.skipif(connections["controlplane"].vendor != "sqlite", reason="PostgreSQL has its own log")


@sqlite_only
@pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])
def test_no_room_for_a_longer_log_keeps_nothing_from_starting():
    with connections["controlplane"].cursor() as cursor:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages + 100}")
        try:
            lengthen_log()
            left = cursor.execute("SELECT name FROM sqlite_master WHERE name = 'filling'").fetchall()
        finally:
            cursor.execute("PRAGMA max_page_count = 4294967294")
    assert left == []
