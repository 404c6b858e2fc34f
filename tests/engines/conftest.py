"""A fleet for the cast of tests/conftest.py: one engine, read a moment ago, and Olga's key to it."""

import uuid
from datetime import timedelta

import pytest

from engines import snapshots
from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.operations.request import Wish, request
from engines.operations.sweep import due
from portal import clock
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.clock import NOON as NOW
from tests.clock import Clock
from tests.engines.scripted_api import ScriptedApi

WHY = {"reason": "it lost the first one"}  # of a decision


@pytest.fixture(autouse=True)
def held(monkeypatch):
    return Clock.hold(monkeypatch)


def dto(uid="eng_1", name="gpu-1", status="running", busy=(), workers=2, **more):
    """The contract's Engine, `busy` naming the tasks on its first workers."""
    items = [_worker(index, busy[index] if index < len(busy) else None) for index in range(workers)]
    base = {"id": uid, "name": name, "status": status, "created_at": "2026-11-01T00:00:00Z", "workers": items}
    return base | {"engine_version": "v1.0.0", "system_info": {"hostname": "rack-1"}} | more


def _worker(index, task):
    busy = {"status": "busy", "task_id": task, "app_id": "render"} if task else {"status": "idle", "task_id": None}
    return {"id": f"w{index}", "index": index, "status_updated_at": "2026-11-23T11:58:20Z", **busy}


def read(connection, *dtos, at=NOW):
    """Have these readings saved, as a pass begun at `at` would."""
    snapshots.apply(connection, list(dtos), read_at=at)


@pytest.fixture
def engine(acme_connection):
    read(acme_connection, dto(busy=["task_1"]))
    return Engine.objects.get(uid="eng_1")


@pytest.fixture
def olgas_key(olga, acme_connection):
    return store(
        user=olga, connection=acme_connection, secret=Secret("inf_olga_key"), label="Olga's", scopes=["engines:write"]
    )


def wish(**changes):
    base = {"id": uuid.uuid4(), "verb": Verb.DRAIN, "reason": "kernel patch", "deadline": timedelta(hours=2)}
    return Wish(**{**base, "parameters": {}, **changes})


@pytest.fixture
def operation(engine, olga, olgas_key):
    origin = Origin(request_id="req-1", address="10.0.0.9", role="operator")
    return request(wish(), engine=engine, user=olga, key=olgas_key, origin=origin, now=NOW)


def put(operation, state, **facts):
    """Set the row, past the moves: where a test begins, not what it tests."""
    facts = {"sent_at": NOW, "attempts": 1} | facts
    Operation.objects.filter(pk=operation.pk).update(state=State(state), **facts)
    operation.refresh_from_db()
    return operation


@pytest.fixture
def api(acme_connection):
    """An Engines API at the connection's address, told by the test how to behave."""
    served = ScriptedApi()
    served.engines["eng_1"] = dto(busy=["task_1"])
    Connection.objects.filter(pk=acme_connection.pk).update(base_url=served.url)
    acme_connection.refresh_from_db()
    yield served
    served.close()


def sweep(held, **by):
    """Let so much time pass, then do what is due."""
    held.advance(**by)
    for job in list(due(clock.now())):
        job()


def state_of(operation):
    operation.refresh_from_db()
    return operation.state
