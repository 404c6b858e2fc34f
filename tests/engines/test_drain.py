"""What a reading says about a drain: nothing is called finished before the engine says so."""

from datetime import timedelta

import pytest

from engines.enums import State
from engines.models import Change, Engine
from engines.operations.decide import send_again
from engines.operations.drain import FORGOT
from engines.operations.moves import Decider
from portal.audit.origin import Origin
from tests.engines.conftest import NOW, dto, put, read

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(seconds=30)


@pytest.fixture(autouse=True)
def at_half_past(monkeypatch):
    monkeypatch.setattr("portal.clock.now", lambda: LATER)


def after(operation, state, *, status, at=LATER, **more):
    """Put the operation into a state, have the engine read, and return the operation's next state."""
    put(operation, state)
    read(operation.engine.connection, dto(status=status, **more), at=at)
    operation.refresh_from_db()
    return operation.state


@pytest.mark.parametrize("state", ["accepted", "unknown", "working", "lost_contact", "stuck", "needs_attention"])
def test_a_stopped_engine_has_drained(operation, state):
    assert after(operation, state, status="stopped") == State.SUCCEEDED


@pytest.mark.parametrize("state", ["accepted", "unknown", "lost_contact", "needs_attention"])
def test_a_draining_engine_is_at_it(operation, state):
    assert after(operation, state, status="draining") == State.WORKING


def test_idle_workers_are_not_yet_a_finished_drain(operation):
    assert after(operation, "working", status="draining", busy=[]) == State.WORKING


def test_progress_names_the_task_it_waits_for(operation):
    after(operation, "working", status="draining", busy=["task_9"], workers=3)
    assert (operation.progress["idle"], operation.progress["total"]) == (2, 3)
    assert operation.progress["waiting"][0]["task_id"] == "task_9"


def test_silence_is_lost_contact_and_never_done(operation):
    assert after(operation, "working", status="disconnected") == State.LOST_CONTACT


def test_an_engine_that_runs_again_forgot_the_drain(operation):
    assert after(operation, "working", status="running") == State.NEEDS_ATTENTION
    assert operation.note == FORGOT


def test_a_list_that_lags_behind_the_answer_is_given_time(operation):
    soon = NOW + timedelta(seconds=5)
    put(operation, "accepted", sent_at=LATER - timedelta(seconds=5))
    read(operation.engine.connection, dto(status="running", engine_version="v2"), at=LATER)
    operation.refresh_from_db()
    assert operation.state == State.ACCEPTED, soon


def test_a_request_that_did_not_arrive_is_sent_again_after_a_reading(operation):
    assert after(operation, "unknown", status="running", engine_version="v2") == State.REQUESTED


def test_it_is_not_sent_again_for_ever(operation):
    put(operation, "unknown", attempts=5)
    read(operation.engine.connection, dto(status="running", engine_version="v2"), at=LATER)
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_ATTENTION


def test_a_reading_begun_before_the_send_proves_nothing(operation):
    assert after(operation, "working", status="stopped", at=NOW) == State.WORKING


def test_past_its_deadline_it_asks_a_person_and_cuts_nothing(operation):
    put(operation, "working", deadline_at=NOW)
    read(operation.engine.connection, dto(status="draining", busy=["task_1"]), at=LATER)
    operation.refresh_from_db()
    assert operation.state == State.STUCK
    assert "Nothing is cut" in operation.note


def test_sent_again_after_its_deadline_it_has_time_anew(operation, olga):
    put(operation, "needs_attention", deadline_at=NOW)
    send_again(operation, by=Decider(olga, Origin()), now=LATER)
    put(operation, "accepted", deadline_at=operation.deadline_at, sent_at=LATER)
    read(operation.engine.connection, dto(status="draining"), at=LATER + timedelta(seconds=5))
    operation.refresh_from_db()
    assert (operation.state, operation.deadline_at) == (State.WORKING, LATER + timedelta(hours=2))


def test_a_stuck_drain_is_watched_on(operation):
    put(operation, "stuck", deadline_at=NOW)
    read(operation.engine.connection, dto(status="stopped"), at=LATER)
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED


def test_d19_an_unknown_status_moves_nothing(operation):
    assert after(operation, "working", status="hibernating") == State.WORKING


def test_the_engines_history_names_the_operation_under_way(operation):
    after(operation, "working", status="draining")
    change = Change.objects.latest("id")
    assert (change.before, change.after, change.operation_id) == ("running", "draining", operation.pk)


def test_an_unchanged_reading_still_moves_the_operation(operation):
    after(operation, "working", status="draining")
    assert after(operation, "accepted", status="draining") == State.WORKING


def test_a_row_is_written_only_when_something_changed(operation):
    read(operation.engine.connection, dto(busy=["task_1"]), at=LATER)
    assert Engine.objects.get(uid="eng_1").observed_at == NOW
