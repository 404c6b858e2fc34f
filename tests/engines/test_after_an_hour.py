"""A drain that nobody watched for a while, and engines that look alike: only what is read of this engine moves it."""

from datetime import timedelta

import pytest

from engines.enums import State
from engines.models import Moment
from portal.vault.models import Connection
from tests.engines.conftest import NOW, dto, put, read

pytestmark = pytest.mark.django_db
AN_HOUR_LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def an_hour_later(monkeypatch):
    monkeypatch.setattr("portal.clock.now", lambda: AN_HOUR_LATER)


def test_d12_after_an_hour_without_workers_the_state_is_read_and_no_time_is_invented(operation):
    put(operation, "working")
    read(operation.engine.connection, dto(status="stopped"), at=AN_HOUR_LATER)
    operation.refresh_from_db()
    assert (operation.state, operation.finished_at) == (State.SUCCEEDED, AN_HOUR_LATER)
    assert [moment.at for moment in Moment.objects.filter(operation=operation, state="succeeded")] == [AN_HOUR_LATER]


def test_d20_an_engine_of_another_team_with_the_same_id_moves_nothing(operation, other_team):
    put(operation, "working")
    theirs = Connection.objects.create(team=other_team, name="Theirs", base_url="http://127.0.0.1:2")
    read(theirs, dto(status="stopped"), at=AN_HOUR_LATER)
    operation.refresh_from_db()
    assert operation.state == State.WORKING


def test_d20_a_renamed_engine_is_still_the_one(operation):
    put(operation, "working")
    read(operation.engine.connection, dto(name="another", status="stopped"), at=AN_HOUR_LATER)
    operation.refresh_from_db()
    assert (operation.state, operation.engine_name) == (State.SUCCEEDED, "gpu-1")
