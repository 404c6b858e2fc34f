"""For machines: alive, ready, numbers."""

import pytest
import redis
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from portal.health import QUEUE
from tests.engines.test_metrics import numbers
from tests.live.broker import running

pytestmark = pytest.mark.django_db
AWAY = "unix:///nowhere/broker.sock"


def test_ready_when_all_is_there(client, settings):
    with running() as broker:
        settings.REDIS_URL = broker.url
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_alive_asks_nobody(client, django_assert_num_queries, settings):
    settings.REDIS_URL = AWAY
    with django_assert_num_queries(0):
        assert client.get("/healthz").json() == {"status": "ok"}


def test_alive_asks_nobody_for_those_who_are_signed_in(client_of, ada, django_assert_num_queries):
    client = client_of(ada)
    with django_assert_num_queries(0):
        client.get("/healthz")


def test_not_ready_without_a_broker(client, settings):
    settings.REDIS_URL = AWAY
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        503,
        {"status": "not ready", "broker": "The broker does not answer."},
    )


def test_not_ready_with_migrations_left(client):
    (last,) = MigrationLoader(connection).graph.leaf_nodes("audit")
    MigrationRecorder(connection).record_unapplied(*last)
    assert "manage.py migrate" in client.get("/readyz").json()["migrations"]


def test_not_ready_without_a_database(client, monkeypatch):
    def down(*_):
        raise OSError("could not connect to db.internal as portal")

    monkeypatch.setattr(connection, "cursor", down)
    answer = client.get("/readyz")
    assert answer.json()["database"] == "The database does not answer."
    assert "db.internal" not in answer.content.decode()


def test_numbers_for_this_machine(client):
    assert b"process_cpu_seconds_total" in client.get("/metrics").content


def test_numbers_of_the_queue(client, settings):
    with running() as broker:
        settings.REDIS_URL = broker.url
        with redis.Redis.from_url(broker.url) as queue:
            queue.lpush(QUEUE, "{}", "{}")
        found = numbers(client)
    assert (found["portal_messages_waiting"], found["portal_broker_up"]) == (2, 1)


def test_without_database_or_broker_the_process_still_has_numbers(client, settings, monkeypatch):
    def down(*_):
        raise OperationalError("could not connect")

    settings.REDIS_URL = AWAY
    monkeypatch.setattr(connection, "cursor", down)
    found = numbers(client)
    assert (found["portal_database_up"], found["portal_broker_up"], found["portal_live_streams"]) == (0, 0, 0)


@pytest.mark.parametrize("more", [{"REMOTE_ADDR": "10.0.0.9"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.9"}])
def test_no_numbers_for_others(client, more):
    assert client.get("/metrics", **more).status_code == 403
