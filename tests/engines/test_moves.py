"""The operation's state machine: which moves there are, and that of two workers one loses."""

import pytest

from engines.enums import OPEN, State
from engines.models import Operation
from engines.operations.moves import AUDITED, MOVES, Moved, move
from portal.audit.models import Entry
from tests.engines.conftest import NOW, put

pytestmark = pytest.mark.django_db


def test_every_state_has_its_moves():
    assert set(MOVES) == set(State)


def test_only_final_states_lead_nowhere():
    assert {state for state, to in MOVES.items() if not to} == set(State) - OPEN


def test_every_open_state_can_end():
    def ends(state, seen=frozenset()):
        return state not in OPEN or any(ends(to, seen | {state}) for to in MOVES[state] if to not in seen)

    assert all(ends(state) for state in OPEN)


def test_the_second_of_two_workers_loses(operation):
    second = Operation.objects.get(pk=operation.pk)
    move(operation, State.SENDING, now=NOW)
    with pytest.raises(Moved):
        move(second, State.CANCELLED, now=NOW)
    operation.refresh_from_db()
    assert operation.state == State.SENDING


def test_a_worker_with_an_old_fence_loses(operation):
    slow = Operation.objects.get(pk=put(operation, "sending").pk)
    Operation.objects.filter(pk=operation.pk).update(fence=7)
    with pytest.raises(Moved):
        move(slow, State.ACCEPTED, now=NOW)


def test_a_move_that_is_not_in_the_table_is_refused(operation):
    with pytest.raises(ValueError, match="is not a move"):
        move(operation, State.SUCCEEDED, now=NOW)


def test_a_final_move_ends_all_waiting(operation):
    move(put(operation, "working"), State.SUCCEEDED, now=NOW, note="done")
    operation.refresh_from_db()
    assert (operation.next_at, operation.lease_until, operation.finished_at) == (None, None, NOW)


def test_a_move_is_on_the_timeline(operation):
    move(put(operation, "working"), State.STUCK, now=NOW, note="too long")
    assert operation.moments.last().text == "too long"


@pytest.mark.parametrize("to", sorted(AUDITED))
def test_a_move_that_matters_is_audited_with_the_request_it_goes_back_to(operation, to):
    before = next(state for state, moves in MOVES.items() if to in moves)
    move(put(operation, before), to, now=NOW, note="so it was")
    entry = Entry.objects.latest("number")
    assert (entry.action, entry.request_id, entry.operation_id) == (f"operation.{to}", "req-1", str(operation.pk))


def test_a_failing_audit_undoes_the_move(operation, monkeypatch):
    def full_disk(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("engines.operations.moves.record_all", full_disk)
    with pytest.raises(OSError, match="disk full"):
        move(put(operation, "working"), State.SUCCEEDED, now=NOW)
    operation.refresh_from_db()
    assert operation.state == State.WORKING
    assert not operation.moments.filter(state=State.SUCCEEDED).exists()
