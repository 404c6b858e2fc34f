"""Retention: old entries move to a sealed file, and the chain goes on from the seal."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from portal.audit import checkpoints, guard, seals, signing
from portal.audit.models import Entry, Seal
from portal.audit.verify import verify
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db


@pytest.fixture
def sealed(log, ada):
    """#1 to #5 are in a file, #6 tells of it, #7 and #8 came later."""
    checkpoints.write(log)
    seals.seal(log, timezone.now() + timedelta(seconds=1))
    write(log, ada, count=2)
    return log


def file_of(team):
    return seals.folder() / Seal.objects.of(team).get().file


def test_sealed_entries_leave_the_database_and_the_chain_goes_on(sealed):
    assert list(Entry.objects.order_by("number").values_list("number", flat=True)) == [6, 7, 8]
    assert verify(sealed) == (3, None)
    assert verify(sealed, since_checkpoint=True) == (3, None)


def test_the_file_has_the_entries_and_a_signed_seal_beside_it(sealed):
    lines = [json.loads(line) for line in file_of(sealed).read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    note = json.loads(file_of(sealed).with_suffix(".seal.json").read_text())
    assert signing.flaw(note) == ""
    assert (note["first"], note["last"], note["count"], note["last_hash"]) == (1, 5, 5, lines[-1]["hash"])


def test_the_sealing_is_in_the_log(sealed):
    entry = Entry.objects.get(number=6)
    assert (entry.action, entry.detail["first"], entry.detail["last"]) == ("audit.sealed", 1, 5)


def test_only_what_is_older_is_sealed(log):
    third = Entry.objects.get(number=3).at
    assert str(seals.seal(log, third)) == "#1 to #2"
    assert verify(log) == (4, None)


def test_a_second_seal_follows_the_first(sealed):
    call_command("seal_audit", before=timezone.now() + timedelta(seconds=1))
    assert [str(seal) for seal in Seal.objects.order_by("first")] == ["#1 to #5", "#6 to #8"]
    assert verify(sealed) == (1, None)


def test_nothing_old_is_nothing_to_seal(log):
    assert seals.seal(log, timezone.now() - timedelta(days=1)) is None
    assert not Seal.objects.exists()


def test_a_file_that_was_moved_away_is_no_fault(sealed):
    file_of(sealed).unlink()
    assert verify(sealed) == (3, None)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: [*lines[:2], lines[2].replace("reason 2", "reason x"), *lines[3:]], 3),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: lines[:4], 5),
        (lambda lines: [*lines, lines[4]], 6),
        (lambda lines: [*lines[:3], "garbage\n", lines[4]], 4),
    ],
    ids=["changed", "missing", "cut", "more", "garbage"],
)
def test_a_touched_file_is_found(sealed, change, found):
    lines = file_of(sealed).read_text().splitlines(keepends=True)
    file_of(sealed).write_text("".join(change(lines)))
    assert verify(sealed)[1].number == found


@pytest.mark.parametrize("change", [{"last": 6}, {"last_hash": "f" * 64}, {"sha256": "f" * 64}, {"signature": "00"}])
def test_a_touched_seal_is_found(sealed, change):
    guard.lower(connection)
    Seal.objects.update(**change)
    assert verify(sealed)[1].number == 1


def test_a_forged_seal_does_not_hide_what_was_deleted(log):
    fifth = Entry.objects.get(number=5)
    Seal.objects.create(team=log, first=1, last=5, prev_hash="0" * 64, last_hash=fifth.hash, at=timezone.now())
    Entry.objects.all().delete()
    assert verify(log)[1].number == 1
    assert verify(log, since_checkpoint=True)[1].number == 1


def test_a_forged_seal_does_not_hide_it_from_the_check_of_what_is_new(log, ada):
    checkpoints.write(log)
    third = Entry.objects.get(number=3)
    Seal.objects.create(team=log, first=1, last=3, prev_hash="0" * 64, last_hash=third.hash, at=timezone.now())
    Entry.objects.filter(number__lte=3).delete()
    write(log, ada)
    assert "its seal" in verify(log, since_checkpoint=True)[1].words


def test_sealed_files_are_the_portal_s_alone(sealed):
    kept = [*seals.folder().iterdir(), checkpoints.file_of(sealed)]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_a_deleted_seal_is_found(sealed):
    guard.lower(connection)
    Seal.objects.all().delete()
    assert verify(sealed)[1].number == 1


def test_a_broken_chain_is_not_sealed(log):
    guard.lower(connection)
    Entry.objects.filter(number=3).update(reason="another reason")
    with pytest.raises(CommandError, match="entry #3"):
        call_command("seal_audit", before=timezone.now())
    assert Entry.objects.count() == 5
