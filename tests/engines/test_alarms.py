"""No operation rests unseen: each open state has a sweep rule and an age at which people are told (RELIABILITY 2.3)."""

from datetime import timedelta

import pytest
from django.core import mail

from engines.enums import OPEN, State
from engines.models import Operation
from engines.operations.alarms import ALARMS, alarming, people_to_tell
from engines.operations.settle import WATCHED
from engines.operations.sweep import RULES, due
from engines.snapshots import refresh
from portal.vault.models import Connection
from tests.engines.conftest import NOW, put

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def aged(operation, state, age=DAY, **facts):
    """The operation, left alone in that state for so long."""
    at = NOW - age
    return put(operation, state, moved_at=at, next_at=at, lease_until=at, deadline_at=at, **facts)


def test_no_open_state_is_without_a_rule_or_an_alarm():
    assert set(RULES) == set(ALARMS) == OPEN
    assert {state for state, job in RULES.items() if job is None} <= WATCHED


@pytest.mark.parametrize("state", sorted(OPEN))
def test_whatever_was_left_alone_is_due_or_watched(operation, state):
    aged(operation, state)
    jobs = [(job.func, job.args[0]) for job in due(NOW)]
    watched = (refresh, operation.connection.pk)
    wanted = (RULES[State(state)], str(operation.pk)) if RULES[State(state)] else watched
    assert wanted in jobs
    assert watched in jobs


@pytest.mark.parametrize("path", ["/engines/", "/operations/"])
@pytest.mark.parametrize("state", sorted(OPEN))
def test_whatever_was_left_alone_is_on_the_pages(operation, client_of, olga, state, path):
    aged(operation, state)
    page = client_of(olga).get(path).content.decode()
    assert f"?state={state}" in page
    assert f"1 {ALARMS[State(state)].words}" in page


@pytest.mark.parametrize("state", sorted(OPEN - {State.STUCK, State.NEEDS_ATTENTION}))
def test_what_has_just_come_into_its_state_alarms_nobody(operation, acme, state):
    put(operation, state, moved_at=NOW, next_at=NOW)
    assert not alarming(acme, NOW).exists()


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_what_has_ended_alarms_nobody(operation, acme, state):
    aged(operation, state)
    assert not alarming(acme, NOW).exists()


def test_one_that_waits_for_its_turn_alarms_nobody(operation, acme):
    put(operation, "requested", moved_at=NOW - DAY, next_at=None)
    assert not alarming(acme, NOW).exists()


def test_a_machine_that_was_ordered_has_half_an_hour_whatever_its_deadline(operation, acme):
    aged(operation, "working", timedelta(minutes=30), verb="create")
    assert not alarming(acme, NOW).exists()
    aged(operation, "working", timedelta(minutes=36), verb="create")
    assert alarming(acme, NOW).exists()


def test_other_teams_are_not_alarmed(operation, client_of, mallory):
    aged(operation, "stuck")
    assert "Look at these operations" not in client_of(mallory).get("/operations/").content.decode()


def test_alarms_are_a_number_to_watch(operation, client):
    aged(operation, "unknown")
    assert 'portal_operations_alarming{state="unknown",verb="drain"} 1.0' in client.get("/metrics").content.decode()


@pytest.fixture
def mailing(settings):
    settings.EMAIL_HOST, settings.PORTAL_URL = "mail.example", "https://portal.acme.example"


def written(at=NOW):
    """Who is written to by a sweep at that moment, and what."""
    mail.outbox.clear()
    for _ in range(2):
        for job in people_to_tell(at):
            job()
    return {sent.to[0]: sent.body for sent in mail.outbox}, len(mail.outbox)


@pytest.mark.usefixtures("mailing", "ada", "bill", "victor")
def test_what_stays_unknown_is_written_to_admins_and_billing_once(operation):
    aged(operation, "unknown", timedelta(minutes=15), note="No answer came.")
    bodies, number = written()
    assert (set(bodies), number) == ({"ada@acme.example", "bill@acme.example"}, 2)
    assert "Drain gpu-1, asked by Olga: No answer came." in bodies["ada@acme.example"]
    assert f"https://portal.acme.example/operations/{operation.pk}/" in bodies["ada@acme.example"]
    assert written(NOW + DAY)[1] == 0


@pytest.mark.usefixtures("mailing", "ada")
def test_unknown_anew_is_written_anew(operation):
    aged(operation, "unknown", timedelta(minutes=15))
    assert written()[1] == 1
    Operation.objects.update(moved_at=NOW + timedelta(hours=1))
    assert written(NOW + timedelta(hours=2))[1] == 1


@pytest.mark.usefixtures("mailing", "ada")
def test_for_a_quarter_of_an_hour_readings_have_time_to_tell(operation):
    aged(operation, "unknown", timedelta(minutes=14))
    assert written()[1] == 0


@pytest.mark.usefixtures("ada")
def test_without_a_mail_server_nobody_counts_as_told(operation):
    aged(operation, "unknown")
    Connection.objects.update(refresh_due_at=NOW + DAY)
    assert written()[1] == 0
    assert Operation.objects.get().told_at is None
