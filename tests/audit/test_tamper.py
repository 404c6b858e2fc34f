"""Tampering by the owner of the database, whom no trigger stops: each kind is found and located."""

import pytest
from django.core.management import CommandError, call_command

from portal.audit.log import digest
from portal.audit.models import Entry, Head
from portal.audit.verify import verify
from tests.audit.conftest import write

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("owner")]


def fault(team):
    _, found = verify(team)
    return found.number if found else None


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
