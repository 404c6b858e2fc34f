"""The numbers for whoever runs the portal."""

from datetime import timedelta

import pytest

from engines.models import Automation, Operation
from portal import clock
from portal.vault.models import Connection

pytestmark = pytest.mark.django_db


def numbers(client):
    """The portal's own lines: {name and labels: value}."""
    lines = client.get("/metrics").content.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("portal_"))}


def test_numbers_of_operations(client, operation):
    Operation.objects.update(requested_at=clock.now() - timedelta(hours=3))
    found = numbers(client)
    assert found['portal_operations{state="requested",verb="drain"}'] == 1
    assert found["portal_operation_oldest_open_seconds"] == pytest.approx(3 * 3600, abs=60)


def test_an_ended_operation_is_counted_and_not_old(client, operation):
    Operation.objects.update(requested_at=clock.now() - timedelta(hours=3), state="succeeded")
    found = numbers(client)
    assert found['portal_operations{state="succeeded",verb="drain"}'] == 1
    assert found["portal_operation_oldest_open_seconds"] == 0


def test_numbers_of_connections(client, acme, acme_connection):
    Connection.objects.create(team=acme, name="new", base_url="http://127.0.0.1:2")
    Connection.objects.create(team=acme, name="bad", base_url="http://127.0.0.1:3", failing_since=clock.now())
    Connection.objects.filter(pk=acme_connection.pk).update(refreshed_at=clock.now() - timedelta(seconds=40))
    found = numbers(client)
    assert [found[f'portal_connections{{reading="{name}"}}'] for name in ("ok", "failing", "never")] == [1, 1, 1]
    age = found[f'portal_connection_last_pass_seconds{{connection="{acme_connection.pk}",team="acme"}}']
    assert age == pytest.approx(40, abs=20)


def test_only_so_many_connections_have_a_line_of_their_own(client, acme):
    Connection.objects.bulk_create(
        Connection(team=acme, name="c", base_url=f"http://c{n}", refreshed_at=clock.now()) for n in range(150)
    )
    assert sum(name.startswith("portal_connection_last_pass_seconds") for name in numbers(client)) == 100


def test_numbers_of_workers(client):
    assert "portal_worker_last_seen_seconds" not in numbers(client)
    Automation.objects.create(worker="old", seen_at=clock.now() - timedelta(hours=1))
    Automation.objects.create(worker="new", seen_at=clock.now() - timedelta(seconds=20))
    found = numbers(client)
    assert found["portal_workers"] == 1
    assert found["portal_worker_last_seen_seconds"] == pytest.approx(20, abs=20)


def test_numbers_cost_the_same_however_large_the_fleet(client, acme, operation, django_assert_num_queries):
    with django_assert_num_queries(4):  # the clock is held
        client.get("/metrics")
