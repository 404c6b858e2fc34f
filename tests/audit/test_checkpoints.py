"""Checkpoints: signed, appended, written only when there is something new, and kept by the periodic check."""

import json
import threading
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from portal.audit import checkpoints, checks, guard, signing
from portal.audit.log import HASHED, record
from portal.audit.models import Check, Entry, Head
from portal.audit.rows import between
from portal.audit.verify import verify
from portal.celery import app
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db


def notes(team):
    return [json.loads(line) for line in checkpoints.file_of(team).read_text().splitlines()]


def test_a_checkpoint_says_where_the_chain_ended(log):
    call_command("checkpoint_audit")
    (note,) = notes(log)
    assert (note["team"], note["seq"], note["number"]) == ("acme", 1, 5)
    assert note["hash"] == Head.objects.get(team=log).hash
    assert signing.flaw(note) == ""


def test_nothing_new_makes_no_checkpoint(log):
    checkpoints.write(log)
    assert checkpoints.write(log) is None
    assert len(notes(log)) == 1


def test_a_former_key_is_good_while_the_settings_name_it(log, settings):
    checkpoints.write(log)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new one"
    assert verify(log) == (5, None)
    settings.SECRET_KEY_FALLBACKS = []
    assert "does not have" in verify(log)[1].words


def test_half_a_line_that_a_crash_left_is_no_fault_and_goes(log, ada):
    checkpoints.write(log)
    with checkpoints.file_of(log).open("a") as file:
        file.write('{"team": "ac')
    assert verify(log) == (5, None)
    write(log, ada, count=1)
    checkpoints.write(log)
    assert [note["seq"] for note in notes(log)] == [1, 2]
    assert verify(log) == (6, None)


def test_a_note_that_the_head_has_not_counted_yet_is_no_fault(log):
    checkpoints.write(log)
    Head.objects.update(checkpoints=0)
    assert verify(log) == (5, None)


def test_beat_sends_the_check(settings):
    app.loader.import_default_modules()
    assert settings.CELERY_BEAT_SCHEDULE["audit"]["task"] in app.tasks


def test_every_thousandth_entry_asks_for_a_checkpoint(log, ada, monkeypatch):
    sent = []
    monkeypatch.setattr("portal.audit.log.wake_after_commit", sent.append)
    Head.objects.update(number=998)
    write(log, ada, count=1)
    assert sent == []
    write(log, ada, count=1)
    assert [task.name for task in sent] == ["audit.checkpoint"]


def test_the_check_keeps_what_it_found_until_all_is_whole_again(log, ada):
    checks.check_all()
    assert Check.objects.get(team=log).fault == ""
    guard.lower(connection)
    Entry.objects.filter(number=3).update(reason="another reason")
    now = timezone.now()
    assert checks.check(log, now).fault == ""  # only what is new, until the day is over
    assert checks.check(log, now + timedelta(days=1)).number == 3
    assert checks.check(log, now + timedelta(days=1, minutes=5)).number == 3
    Entry.objects.filter(number=3).update(reason="reason 2")
    assert checks.check(log, now + timedelta(days=1, minutes=10)).fault == ""


def test_time_in_the_log_never_runs_backwards(log, ada, monkeypatch):
    newest = Entry.objects.get(number=5).at
    monkeypatch.setattr("portal.clock.now", lambda: newest - timedelta(hours=3))
    write(log, ada, count=1)
    assert Entry.objects.get(number=6).at == newest


def test_the_text_that_is_hashed_is_canonical_json(acme, ada):
    odd = {"b": ["ü", 1], "a": {"z": None, "y": '"\\\u2028'}}
    record(team=acme, actor=ada, action="key.stored", target=ada, reason='"\\\n\u202e', before=odd, after={"x": True})
    record(team=acme, actor=None, action="key.stored", target=ada)
    for entry, row in zip(Entry.objects.order_by("number"), between(acme, 1, 2), strict=True):
        fields = {name: getattr(entry, name) for name in HASHED} | {"at": entry.at.isoformat(), "team": acme.pk}
        assert row.text == json.dumps(fields, sort_keys=True, separators=(",", ":"))


@pytest.mark.django_db(transaction=True)
def test_writers_and_checkpoints_at_once_leave_all_whole(acme, ada):
    faults = []

    def writer():
        write(acme, ada, count=10)
        connection.close()

    def noter():
        for _ in range(10):
            checkpoints.write(acme)
            faults.append(verify(acme)[1])
        connection.close()

    threads = [threading.Thread(target=job) for job in (writer, writer, noter, noter)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(faults) == {None}
    assert verify(acme) == (20, None)
