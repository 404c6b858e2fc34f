"""D16: somebody sets the clock of the host while the portal runs."""

import time
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from engines.enums import State
from engines.models import Operation
from engines.operations.sweep import due
from portal import clock, services
from portal.vault.models import Connection
from tests.engines import conftest as fleet
from tests.engines.conftest import dto, put, read

engine, olgas_key, operation = fleet.engine, fleet.olgas_key, fleet.operation
JUMPS = [timedelta(hours=3), timedelta(hours=-3)]


@pytest.fixture
def started(monkeypatch):
    """As a process of `make run`."""
    monkeypatch.setenv(clock.OFFSET, repr(clock.offset()))


@pytest.mark.django_db
@pytest.mark.parametrize("jump", JUMPS)
def test_d16_its_clock_goes_on_evenly(started, jump):
    before = clock.now()
    with time_machine.travel(timezone.now() + jump):
        assert timedelta(0) <= clock.now() - before < timedelta(seconds=30)


@pytest.mark.parametrize("jump", JUMPS)
def test_d16_no_lease_ends_and_no_deadline_passes(started, operation, jump):
    now = clock.now()
    soon = now + timedelta(minutes=10)
    Connection.objects.update(refresh_due_at=soon, refresh_lease_until=soon)
    put(operation, "working", deadline_at=now + timedelta(hours=2), sent_at=now - timedelta(minutes=1), moved_at=now)
    sending = Operation.objects.create(
        team=operation.team, new_at=operation.connection, engine_name="x", verb="rename", state=State.SENDING,
        lease_until=soon, next_at=soon, requested_at=now, deadline_at=soon, moved_at=now,
    )  # fmt: skip
    with time_machine.travel(timezone.now() + jump):
        assert [job.func.__name__ for job in due(clock.now())] == []
        read(operation.connection, dto(status="draining"), at=clock.now())
    assert Operation.objects.get(pk=operation.pk).state == State.WORKING
    assert Operation.objects.get(pk=sending.pk).state == State.SENDING


def test_d16_all_processes_of_one_start_share_its_clock(tmp_path):
    place = services.Place(tmp_path, 1, 2, None)
    found = {place.spec(name, "true").environment[clock.OFFSET] for name in ("portal", "worker", "beat")}
    assert len(found) == 1
    assert float(found.pop()) == pytest.approx(time.time() - clock.boot(), abs=60)


def test_without_a_start_it_is_the_hosts(monkeypatch):
    monkeypatch.setattr(connection, "vendor", "sqlite")  # PostgreSQL has a clock of its own
    monkeypatch.delenv(clock.OFFSET, raising=False)
    with time_machine.travel(timezone.now() + timedelta(hours=3)):
        assert abs(clock.now() - timezone.now()) < timedelta(seconds=30)
