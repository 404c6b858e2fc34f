"""Waiting for the worker's first sign of life: its own, from this start, and not for ever."""

import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from engines.models import Automation
from portal.processes import Child, Spec
from portal.up import last_sign, wait_for_work

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def worker(tmp_path):
    child = Child(Spec("worker", [sys.executable, "-c", "import time; time.sleep(60)"]), tmp_path)
    child.start()
    yield child
    child.kill()


def sign(pid, at):
    Automation.objects.update_or_create(worker=f"host:{pid}", defaults={"seen_at": at})


def test_a_sign_of_the_worker_ends_the_wait(worker):
    sign(worker.pid, BEFORE)

    def works(_):
        sign(worker.pid, BEFORE + timedelta(seconds=9))

    assert wait_for_work(worker, last_sign(), works)


def test_an_earlier_sign_of_the_same_number_does_not(worker):
    sign(worker.pid, BEFORE)
    assert not wait_for_work(worker, last_sign(), lambda _: None, seconds=0.2)


def test_a_sign_of_another_worker_does_not(worker):
    sign(worker.pid + 1, BEFORE)
    assert not wait_for_work(worker, None, lambda _: None, seconds=0.2)


def test_a_worker_that_ends_is_not_waited_for(worker):
    began = time.monotonic()
    assert not wait_for_work(worker, None, lambda _: worker.kill())
    assert time.monotonic() - began < 5
