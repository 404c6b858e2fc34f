"""Tampering by the owner of the database, whom no trigger stops: each kind is found and located."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from portal.audit import checkpoints, seals
from portal.audit.log import digest
from portal.audit.models import Entry, Head
from portal.audit.verify import verify
from tests.audit.conftest import write

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("owner")]


def fault(team):
    _, found = verify(team)
    return found.number if found else None


@pytest.fixture
def noted(log, ada):
    """Checkpoints saw #5 and #8; the log ends with #10."""
    checkpoints.write(log)
    write(log, ada, count=3)
    checkpoints.write(log)
    write(log, ada, count=2)
    return log


def rehash(team, first):
    """Make the chain consistent again from that entry on, its head included."""
    entries = list(Entry.objects.of(team).order_by("number"))
    previous = next((entry.hash for entry in entries if entry.number == first - 1), "0" * 64)
    for entry in entries:
        if entry.number >= first:
            entry.prev_hash = previous
            entry.hash = digest(entry)
            entry.save()
        previous = entry.hash
    Head.objects.filter(team=team).update(number=entries[-1].number, hash=previous)


def test_a_whole_chain_is_whole(log):
    assert verify(log) == (5, None)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "another reason"},
        {"actor_name": "somebody else"},
        {"role": "admin"},
        {"address": "10.0.0.1"},
        {"action": "engine.drain"},
        {"target_id": "another"},
        {"outcome": "refused"},
        {"before": {"a": 1}},
        {"after": {"a": 1}},
        {"detail": {"a": 1}},
        {"request_id": "another"},
        {"operation_id": "another"},
        {"at": "2020-01-01T00:00:00Z"},
        {"actor_id": 987654},
        {"target_type": "another"},
        {"target_name": "another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_field_is_found(log, change):
    Entry.objects.filter(number=3).update(**change)
    assert fault(log) == 3


def test_a_changed_and_rehashed_entry_is_found_at_the_next_one(log):
    entry = Entry.objects.get(number=3)
    entry.reason = "another reason"
    Entry.objects.filter(number=3).update(reason=entry.reason, hash=digest(entry))
    assert fault(log) == 4


def test_a_missing_entry_is_found(log):
    Entry.objects.filter(number=2).delete()
    assert fault(log) == 2


def test_a_cut_tail_is_found(log):
    Entry.objects.filter(number=5).delete()
    assert fault(log) == 5


def test_swapped_entries_are_found(log):
    for old, new in ((2, 99), (3, 2), (99, 3)):
        Entry.objects.filter(number=old).update(number=new)
    assert fault(log) == 2


def test_a_forged_entry_at_the_end_is_found(log):
    last = Entry.objects.get(number=5)
    last.pk, last.number = None, 6
    last.save()
    assert fault(log) == 6


def test_a_forged_entry_in_the_middle_is_found(log):
    for number in (5, 4):
        Entry.objects.filter(number=number).update(number=number + 1)
    forged = Entry.objects.get(number=3)
    forged.pk, forged.number, forged.prev_hash = None, 4, forged.hash
    forged.hash = digest(forged)
    forged.save()
    assert fault(log) == 5


def forge(number):
    """Insert a copy of the last entry that is right in itself under that number."""
    forged = Entry.objects.order_by("number").last()
    forged.pk, forged.number = None, number
    forged.hash = digest(forged)
    forged.save()


def test_a_forged_entry_before_the_first_is_found(log):
    forge(0)
    assert [verify(log, since_checkpoint=since)[1].number for since in (False, True)] == [0, 0]


def test_a_forged_entry_among_the_sealed_is_found(log, ada):
    checkpoints.write(log)
    seals.seal(log, timezone.now() + timedelta(seconds=1))
    write(log, ada, count=2)
    forge(3)
    assert [verify(log, since_checkpoint=since)[1].number for since in (False, True)] == [3, 3]


def test_a_rehashed_last_entry_is_found(log):
    entry = Entry.objects.get(number=5)
    entry.reason = "another reason"
    Entry.objects.filter(number=5).update(reason=entry.reason, hash=digest(entry))
    assert fault(log) == 5


def test_a_lost_head_is_found(log):
    Head.objects.all().delete()
    assert fault(log) == 1


def test_an_entry_moved_in_from_another_team_is_found(log, other_team, mallory):
    write(other_team, mallory, count=5)
    Entry.objects.filter(team=log, number=3).delete()
    Entry.objects.filter(team=other_team, number=3).update(team=log)
    assert fault(log) == 3


def test_another_teams_changed_row_is_found_there(log, other_team, mallory):
    write(other_team, mallory, count=5)
    Entry.objects.filter(team=other_team, number=4).update(reason="another reason")
    assert (fault(log), fault(other_team)) == (None, 4)
    with pytest.raises(CommandError, match=f"{other_team.slug}: entry #4 was changed"):
        call_command("verify_audit")


def test_the_command_says_which_entry(log):
    Entry.objects.filter(number=3).update(actor_name="somebody else")
    with pytest.raises(CommandError, match="acme: entry #3 was changed"):
        call_command("verify_audit")


def test_a_whole_chain_agrees_with_its_checkpoints(noted):
    assert verify(noted) == (10, None)
    assert verify(noted, since_checkpoint=True) == (2, None)


@pytest.mark.parametrize(("changed", "found"), [(2, 1), (5, 1), (6, 6), (8, 6)])
def test_a_chain_rewritten_with_its_head_is_found_between_two_checkpoints(noted, changed, found):
    Entry.objects.filter(number=changed).update(reason="another reason")
    rehash(noted, changed)
    assert fault(noted) == found


def test_a_tail_cut_off_with_its_head_is_found(noted):
    Entry.objects.filter(number__gt=6).delete()
    rehash(noted, 1)
    number, words = vars(verify(noted)[1]).values()
    assert number == 7
    assert "saw #8" in words
    assert verify(noted, since_checkpoint=True)[1].number == 7


def test_a_tail_cut_off_and_grown_again_is_found(noted, ada):
    Entry.objects.filter(number__gt=6).delete()
    rehash(noted, 1)
    write(noted, ada, count=4)
    checkpoints.write(noted)
    assert fault(noted) == 6


def test_a_whole_log_deleted_with_its_head_is_found(noted):
    Entry.objects.all().delete()
    Head.objects.all().delete()
    assert fault(noted) == 1


def test_a_deleted_team_is_found(noted):
    Entry.objects.all().delete()
    Head.objects.all().delete()
    noted.memberships.all().delete()
    noted.delete()
    with pytest.raises(CommandError, match="team-"):
        call_command("verify_audit")


def lines_of(team, change):
    path = checkpoints.file_of(team)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


def edited(lines):
    note = json.loads(lines[1])
    return [lines[0], json.dumps(note | {"hash": "f" * 64}) + "\n"]


@pytest.mark.parametrize(
    ("change", "number", "words"),
    [
        (edited, 6, "checkpoint 2 was changed"),
        (lambda lines: lines[1:], 1, "checkpoint 1 is missing"),
        (lambda lines: lines[:1], 6, "checkpoint 2 is missing"),
        (lambda lines: [], 1, "checkpoint 1 is missing"),
        (lambda lines: lines[::-1], 1, "checkpoint 1 is missing"),
        (lambda lines: ["garbage\n", lines[1]], 1, "checkpoint 1 cannot be read"),
        (lambda lines: [lines[0], lines[0]], 6, "checkpoint 2 is missing"),
    ],
    ids=["edited", "first gone", "last gone", "all gone", "swapped", "garbage", "repeated"],
)
def test_a_touched_checkpoint_file_is_found(noted, change, number, words):
    lines_of(noted, change)
    _, found = verify(noted)
    assert (found.number, words in found.words) == (number, True), found


def test_a_lost_newest_checkpoint_is_found_without_reading_all(noted):
    lines_of(noted, lambda lines: lines[:1])
    assert "newer ones are missing" in verify(noted, since_checkpoint=True)[1].words


def test_a_forged_checkpoint_is_found(noted, settings):
    Entry.objects.filter(number=2).update(reason="another reason")
    rehash(noted, 2)
    ours, settings.SECRET_KEY = settings.SECRET_KEY, "somebody else's"
    checkpoints.file_of(noted).unlink()
    Head.objects.update(checkpoints=0)
    checkpoints.write(noted)
    settings.SECRET_KEY = ours
    assert "which this portal does not have" in verify(noted)[1].words


def test_new_rows_that_were_changed_are_found_since_the_checkpoint(noted):
    Entry.objects.filter(number=9).update(reason="another reason")
    assert verify(noted, since_checkpoint=True)[1].number == 9


def test_the_row_that_the_checkpoint_saw_is_looked_at_again(noted):
    Entry.objects.filter(number=8).update(reason="another reason")
    assert verify(noted, since_checkpoint=True)[1].number == 8
