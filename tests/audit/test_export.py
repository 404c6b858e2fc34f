"""Exports: exactly what is filtered, safe in a spreadsheet, streamed, audited, and for Auditors and Admins alone."""

import asyncio
import csv
import io
import json

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from portal.audit import export
from portal.audit.export import safe
from portal.audit.log import record
from portal.audit.models import Entry
from portal.audit.rows import parsed
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db


def exported(client, query="", kind="csv"):
    answer = client.post(f"/audit/export/{query}", {"format": kind})
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content).decode()


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_it_has_every_entry_the_oldest_first(log, audra, client_of, monkeypatch):
    monkeypatch.setattr(export, "BATCH", 2)
    assert [row["number"] for row in rows(exported(client_of(audra)))] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [("?actor=olga", ["6", "7"]), ("?q=reason+1", ["2", "7"]), ("?actor=olga&q=reason+1", ["7"]), ("?actor=eve", [])],
)
def test_it_has_what_is_filtered_and_nothing_else(log, olga, audra, client_of, query, numbers):
    write(log, olga, count=2)
    assert [row["number"] for row in rows(exported(client_of(audra), query))] == numbers


def test_the_page_s_cursor_cuts_nothing_off(log, audra, client_of):
    assert len(rows(exported(client_of(audra), "?cursor=x&before=2"))) == 5


def test_it_is_in_the_log_itself_with_its_filter(log, audra, client_of):
    exported(client_of(audra), "?actor=ada&outcome=ok", "jsonl")
    entry = Entry.objects.latest("number")
    assert (entry.action, entry.actor) == ("audit.exported", audra)
    assert entry.detail == {"filter": {"actor": "ada", "outcome": "ok"}, "format": "jsonl"}


def test_jsonl_can_be_checked_without_the_portal(log, audra, client_of):
    found = [parsed(line, log) for line in exported(client_of(audra), kind="jsonl").splitlines()]
    assert [row.number for row in found] == [1, 2, 3, 4, 5]
    assert all(row.digest() == row.hash for row in found)
    assert [row.prev_hash for row in found[1:]] == [row.hash for row in found[:-1]]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠", "﹢", "⁼"])
def test_what_a_spreadsheet_would_run_is_text(first):
    assert safe(f"{first}cmd|'/c calc'!A1").startswith(f"'{first}")


@pytest.mark.parametrize("cell", ["", "gpu-1", "2026-01-01T00:00:00+00:00", "{}", "'quoted", "ü"])
def test_other_cells_stay_as_they_are(cell):
    assert safe(cell) == cell


def test_names_from_outside_are_made_safe_in_the_file(acme, ada, audra, client_of):
    record(team=acme, actor=ada, action="engine.drain", target=ada, reason='=HYPERLINK("x"),\n"y"')
    (row,) = rows(exported(client_of(audra)))
    assert row["reason"] == '\'=HYPERLINK("x"),\n"y"'


@pytest.mark.parametrize(("query", "kind"), [("?since=yesterday", "csv"), ("", "xlsx")])
def test_a_bad_filter_exports_nothing(log, audra, client_of, query, kind):
    assert client_of(audra).post(f"/audit/export/{query}", {"format": kind}).status_code == 400
    assert not Entry.objects.filter(action="audit.exported").exists()


def test_it_has_nothing_of_other_teams(log, mallory, client_of):
    assert rows(exported(client_of(mallory))) == []


def test_it_reads_one_batch_at_a_time(log, audra, client_of, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(export, "BATCH", 2)
    parts = client_of(audra).post("/audit/export/", {"format": "jsonl"}).streaming_content
    with django_assert_num_queries(1):
        assert next(parts).count(b"\n") == 2


@pytest.mark.django_db(transaction=True)
def test_the_server_streams_it_too(log, audra):
    async def read():
        client = AsyncClient()
        await client.aforce_login(audra)
        answer = await client.post("/audit/export/", {"format": "jsonl"})
        parts = [part async for part in answer.streaming_content]
        await sync_to_async(connections.close_all)()  # the thread's own, which outlives the request
        return answer.is_async, parts

    is_async, parts = asyncio.run(read())
    assert is_async
    assert [json.loads(line)["number"] for line in b"".join(parts).splitlines()] == [1, 2, 3, 4, 5]
