"""A long log stays fast: no page scans the table, sorts it, counts it or skips through it."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.audit.models import Entry, Head

pytestmark = pytest.mark.django_db
ENTRIES = 20_000


@pytest.fixture
def long_log(acme, ada):
    """Rows enough for the planner to care. Their hashes are none: nobody checks them here."""
    entry = {"team": acme, "actor": ada, "target_type": "engines.engine", "prev_hash": "", "hash": ""}
    Entry.objects.bulk_create(
        Entry(
            **entry,
            number=number,
            at=f"2026-01-{1 + number * 28 // ENTRIES:02}T00:00:00Z",
            actor_name=f"Person {number % 20:02}" if number % 1000 else "Rare Person",
            action="engine.drain" if number % 500 else "key.stored",
            outcome="ok" if number % 300 else "failed",
            target_id=f"eng_{number % 400}",
            target_name=f"engine {number % 400}",
            request_id=f"req-{number}",
        )
        for number in range(ENTRIES)
    )
    Head.objects.create(team=acme, number=ENTRIES - 1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audit_entry" if connection.vendor == "postgresql" else "ANALYZE")
    return acme


def plan(sql):
    with connection.cursor() as cursor:
        cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + sql)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def reads(client, query):
    with CaptureQueriesContext(connection) as captured:
        client.get(f"/audit/{query}")
    found = [one["sql"] for one in captured if "audit_entry" in one["sql"]]
    assert found
    return found


QUERIES = [
    "",
    "?actor=rare",
    "?action=key.stored",
    "?outcome=failed",
    "?target=eng_7",
    "?since=2026-01-10T00:00&until=2026-01-11T00:00",
    "?actor=person+07&action=key.stored&until=2026-01-11T00:00",
    "?q=req-77",
    "?q=engine+77",
]


def test_a_page_reads_only_what_an_index_leads_to(long_log, audra, client_of, monkeypatch):
    monkeypatch.setattr("portal.audit.views.SEARCHED", 500)
    client = client_of(audra)
    for query in QUERIES:
        following = client.get(f"/audit/{query}").context["page"]["next"] or query
        for sql in [*reads(client, query), *reads(client, following)]:
            assert not re.search(r"OFFSET|COUNT\(", sql)
            assert not re.search(r"SCAN audit_entry|Seq Scan on audit_entry", plan(sql)), f"{sql}\n{plan(sql)}"


def test_words_are_searched_a_run_of_entries_at_a_time(long_log, audra, client_of, monkeypatch):
    monkeypatch.setattr("portal.audit.views.SEARCHED", 1000)
    client, query, seen = client_of(audra), "?q=engine+77", 0
    context = client.get(f"/audit/{query}").context
    assert (context["searched"]["first"], context["searched"]["last"]) == (19_000, 19_999)
    while query:
        context = client.get(f"/audit/{query}").context
        seen += len(context["page"]["rows"])
        query = context["searched"]["older"]
    assert seen == ENTRIES // 400


def test_an_id_is_found_however_old_it_is(long_log, audra, client_of, monkeypatch):
    monkeypatch.setattr("portal.audit.views.SEARCHED", 1000)
    rows = client_of(audra).get("/audit/?q=req-7").context["page"]["rows"]
    assert [row["entry"].number for row in rows] == [7]
