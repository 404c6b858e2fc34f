"""K1-K17: a real worker process is killed or stopped at each step, and what is charged is what is booked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core import mail
from django.db import OperationalError, connection

from engines.enums import State
from engines.models import Extension, LedgerEntry, Operation
from engines.money import reconcile
from engines.operations.send import send as wake
from portal.audit.models import Entry
from tests.harness import wait_for
from tests.money.conftest import NOON, ask, fresh, quote, settle, sweep

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def worker(clock):
    """Starts a worker process for an operation, to fail at a place; it is gone at the end."""
    started = []

    def start(operation, failpoint=""):
        started.append(subprocess.Popen(**worker_of(operation, clock, failpoint)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def worker_of(asked, clock, failpoint=""):
    """Say how to start a worker process that sends this operation or batch, and fails at that place."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.money.crash_settings",
        "DATABASE_URL": database(),
        "FAILPOINTS": failpoint,
        "NOW": clock.at.isoformat(),
    }
    return {
        "args": [sys.executable, "-m", "tests.money.worker", asked._meta.model_name, str(asked.pk)],
        "env": environment,
        "cwd": ROOT,
    }


def database():
    """The address of the test's own database."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def killed_at(worker, operation, place):
    assert worker(operation, place).wait(30) == 137
    return fresh(operation)


def stopped_at(worker, operation, place):
    process = worker(operation, f"pause:{place}")
    wait_for(lambda: os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT), 30, "stop")
    return process


def ended(operation, api, posts, outcome):
    done = fresh(operation)
    assert (done.extension.outcome, len(api.posts())) == (outcome, posts)
    assert LedgerEntry.objects.count() == len(api.charges)


def test_k1_a_purchase_that_was_not_committed_does_not_exist(engine, bill, bills_key, api, monkeypatch):
    made = quote(engine)
    with monkeypatch.context() as patch:
        patch.setattr(Extension.objects, "create", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ask(engine, bill, bills_key, quote=made)
    assert Operation.objects.count() == 0
    again = ask(engine, bill, bills_key, quote=made)
    sweep()
    ended(again, api, 1, "confirmed")


def test_k2_committed_and_never_woken_the_sweep_sends_it(asked, api):
    sweep()
    ended(asked, api, 1, "confirmed")


BEFORE_ARMING = {
    "K3": "extend.claimed",
    "K4": "extend.checked",
    "K5": "extend.connected",
    "K6, not committed": "extend.arming",
}


@pytest.mark.parametrize("place", BEFORE_ARMING.values(), ids=BEFORE_ARMING)
def test_killed_before_it_was_armed_another_worker_sends_it(asked, api, clock, worker, place):
    assert killed_at(worker, asked, place).state == State.CHECKING
    assert api.posts() == []
    settle(clock, asked, minutes=2)
    ended(asked, api, 1, "confirmed")


@pytest.mark.parametrize("place", ["extend.armed"], ids=["K6, committed, and K7"])
def test_killed_after_it_was_armed_nobody_sends_it(asked, api, clock, worker, place):
    assert killed_at(worker, asked, place).state == State.SENDING
    assert settle(clock, asked, minutes=4).state == State.UNKNOWN
    settle(clock, asked)
    ended(asked, api, 0, "not_applied")


@pytest.mark.parametrize("applied", [True, False])
def test_k8_killed_in_the_middle_of_the_request_it_is_what_readings_show(asked, api, clock, worker, applied):
    api.acts_on_halves = applied
    assert killed_at(worker, asked, "half").state == State.SENDING
    wait_for(lambda: api.posts() and len(api.charges) == applied, 10, "half a request at the API")
    settle(clock, asked)
    ended(asked, api, 1, "observed" if applied else "not_applied")


@pytest.mark.parametrize("applied", [True, False])
def test_k9_killed_before_the_answer_it_is_what_readings_show(asked, api, clock, worker, applied):
    api.faults = [("silence", applied)]
    process = worker(asked)
    wait_for(lambda: api.posts() and (api.charges or not applied), 30, "purchase at the API")
    process.kill()
    process.wait(10)
    settle(clock, asked)
    ended(asked, api, 1, "observed" if applied else "not_applied")


@pytest.mark.parametrize("place", ["extend.answered", "extend.recording"], ids=["K10", "K11"])
def test_killed_before_the_answer_was_recorded_it_is_observed(asked, api, clock, worker, place):
    assert killed_at(worker, asked, place).state == State.SENDING
    settle(clock, asked, minutes=5)
    ended(asked, api, 1, "observed")


def test_k12_killed_after_it_was_recorded_all_is_said_once(asked, api, clock, worker, client_of, bill):
    assert killed_at(worker, asked, "extend.recorded").state == State.SUCCEEDED
    page = client_of(bill).get(f"/operations/{asked.pk}/").content.decode()  # what the next poll of it shows
    assert "Confirmed by the API" in page
    settle(clock, asked, minutes=5)
    ended(asked, api, 1, "confirmed")
    said = Entry.objects.filter(operation_id=str(asked.pk)).values_list("action", flat=True).order_by("number")
    assert list(said) == ["engine.extend", "operation.succeeded", "cloudtime.charged"]
    assert mail.outbox == []  # of a purchase nobody is written to


REBOOTED = {
    **dict.fromkeys(("claimed", "checked", "connected", "arming"), (1, "confirmed")),
    "armed": (0, "not_applied"),
    "half": (1, "not_applied"),
    **dict.fromkeys(("answered", "recording"), (1, "observed")),
    "recorded": (1, "confirmed"),
}


@pytest.mark.parametrize("place", REBOOTED)
def test_k18_a_host_that_was_started_anew_changes_nothing_about_it(asked, api, clock, worker, place):
    killed_at(worker, asked, "half" if place == "half" else f"extend.{place}")
    clock.booted = 3.0
    settle(clock, asked, minutes=25)
    ended(asked, api, *REBOOTED[place])


def test_k13_a_worker_stopped_after_arming_is_ended_before_it_wakes(asked, api, clock, worker):
    process = stopped_at(worker, asked, "extend.armed")
    settle(clock, asked)
    assert process.wait(10) == -signal.SIGKILL
    ended(asked, api, 0, "not_applied")


def test_k13_on_another_host_it_wakes_too_late_to_send(asked, api, clock, worker):
    process = stopped_at(worker, asked, "extend.armed")
    Extension.objects.update(armed_by="elsewhere:1:1")
    settle(clock, asked)
    wait_for(window_is_over, 10, "end of the window")
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0
    ended(asked, api, 0, "not_applied")


def window_is_over():
    """The worker's own clock is real: when it armed, is in the row."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - Extension.objects.get().armed_boot > 2.0


def test_k14_a_worker_stopped_before_arming_finds_its_claim_taken(asked, api, clock, worker):
    process = stopped_at(worker, asked, "extend.checked")
    settle(clock, asked, minutes=2)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0
    ended(asked, api, 1, "confirmed")


def test_k15_an_answer_that_is_recorded_too_late_is_booked_once(asked, api, clock, worker):
    process = stopped_at(worker, asked, "extend.answered")
    Extension.objects.update(armed_by="elsewhere:1:1")
    settle(clock, asked, minutes=5)
    process.send_signal(signal.SIGCONT)
    process.wait(30)
    ended(asked, api, 1, "observed")
    assert Entry.objects.filter(action="operation.late_answer").count() == 1


def hang_up():
    """Have the database go away: PostgreSQL for real; SQLite, which is always there, says what it would say."""
    if connection.vendor == "sqlite":
        raise OperationalError("server closed the connection")
    with psycopg.connect(database(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])


@pytest.fixture
def away_at(monkeypatch):
    """Has the database go away at that place, so many times."""

    def away_at(module, place, times=1):
        left = [None] * times

        def at(name):
            if name == place and left:
                left.pop()
                hang_up()

        monkeypatch.setattr(f"engines.money.{module}.failpoint", at)
        return left

    return away_at


@pytest.mark.parametrize("place", ["extend.connected", "extend.arming"])
def test_k16_a_database_that_is_away_at_the_arming_sends_nothing(asked, api, clock, away_at, place):
    away_at("send", place)
    with pytest.raises(OperationalError):
        wake(str(asked.pk), NOON)
    connection.close()
    assert (fresh(asked).state, api.posts()) == (State.CHECKING, [])
    settle(clock, asked, minutes=2)
    ended(asked, api, 1, "confirmed")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the disk of a PostgreSQL is its own")
def test_k17_a_full_disk_at_the_arming_sends_nothing_and_it_waits_again(asked, api, clock, worker, client_of, bill):
    assert worker(asked, "full").wait(30) == 1
    assert (fresh(asked).state, fresh(asked).extension.armed_at, api.posts()) == (State.CHECKING, None, [])
    clock.advance(seconds=61)
    reconcile.requeue(str(asked.pk), clock.at)
    assert fresh(asked).state == State.REQUESTED
    assert "Automation has not run" in client_of(bill).get("/cloud-time/").content.decode()
    settle(clock, asked, minutes=2)  # there is room again
    ended(asked, api, 1, "confirmed")


def test_k16_a_database_that_is_away_for_a_moment_gets_the_record(asked, api, monkeypatch, away_at):
    monkeypatch.setattr("engines.money.record.PAUSE", 0.01)
    left = away_at("record", "extend.recording", times=2)
    wake(str(asked.pk), NOON)
    ended(asked, api, 1, "confirmed")
    assert left == []


def test_k16_a_database_that_stays_away_leaves_it_to_readings(asked, api, clock, monkeypatch, away_at):
    monkeypatch.setattr("engines.money.record.PATIENCE", 0.0)
    away_at("record", "extend.recording")
    with pytest.raises(OperationalError):
        wake(str(asked.pk), NOON)
    connection.close()
    assert fresh(asked).state == State.SENDING
    clock.advance(minutes=3)
    settle(clock, asked, minutes=2)
    ended(asked, api, 1, "observed")
