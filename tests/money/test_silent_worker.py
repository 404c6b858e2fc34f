"""A purchase whose worker went silent: who is ended for it, and who only could not write it down."""

import socket
import subprocess
from datetime import timedelta

import pytest

from engines.enums import State
from engines.models import Automation, Extension
from engines.money import process
from engines.operations.sweep import recover
from tests.money.conftest import fresh, sweep

pytestmark = pytest.mark.django_db


@pytest.fixture
def other():
    """Another process of this host."""
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait(10)


@pytest.fixture
def armed(asked, clock, other):
    """A purchase that the other process armed, and whose lease has run out."""
    who = f"{socket.gethostname()}:{other.pid}:{process._started(other.pid)}"
    Extension.objects.update(armed_by=who, armed_at=clock.at, before=clock.at)
    end = clock.at + timedelta(seconds=150)
    type(asked).objects.update(state=State.SENDING, sent_at=clock.at, attempts=1, lease_until=end, next_at=end)
    clock.advance(seconds=150)
    return asked


def seen(other, clock):
    worker = f"{socket.gethostname()}:{other.pid}"
    Automation.objects.update_or_create(worker=worker, defaults={"seen_at": clock.at})


def test_a_worker_that_shows_no_sign_of_life_is_ended(armed, clock, other):
    for _ in range(2):  # as two workers that found it due at once
        recover(str(armed.pk), clock.at)
    assert (fresh(armed).state, other.poll()) == (State.SENDING, None)
    clock.advance(seconds=30)
    sweep()
    assert fresh(armed).state == State.UNKNOWN
    assert other.wait(10) < 0


def test_a_worker_that_only_could_not_write_it_down_lives_on(armed, clock, other):
    sweep()
    clock.advance(seconds=15)
    seen(other, clock)
    clock.advance(seconds=15)
    sweep()
    assert (fresh(armed).state, other.poll()) == (State.UNKNOWN, None)


def test_a_sign_of_life_from_before_its_lease_ran_out_is_none(armed, clock, other):
    seen(other, clock)
    clock.advance(seconds=1)
    sweep()
    clock.advance(seconds=30)
    sweep()
    assert fresh(armed).state == State.UNKNOWN
    assert other.wait(10) < 0
