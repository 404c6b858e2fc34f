"""A cloud engine for the cast: paid for some hours more, sold by an API that keeps its own books."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import Sum

from engines import snapshots
from engines.models import Engine, LedgerEntry, Operation
from engines.money import amounts, send
from engines.money.buy import buy
from engines.money.quote import Quote
from engines.operations.sweep import due
from portal import clock as clocks
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.clock import NOON, Clock
from tests.money.paid_api import PaidApi

ORIGIN = Origin(request_id="req-1", address="10.0.0.9", role="billing")


@pytest.fixture
def clock(monkeypatch):
    return Clock.hold(monkeypatch)


@pytest.fixture
def api(acme_connection):
    served = PaidApi()
    served.add("eng_1", NOON + timedelta(hours=5))
    Connection.objects.filter(pk=acme_connection.pk).update(base_url=served.url)
    acme_connection.refresh_from_db()
    yield served
    served.close()


@pytest.fixture
def engine(acme_connection, api, clock):
    return seen(acme_connection, api, "eng_1")


def seen(connection, api, uid):
    """The engine as the portal has read it just now."""
    snapshots.apply(connection, [api.engines[uid]], read_at=clocks.now())
    return Engine.objects.get(uid=uid, connection=connection)


def key_of(user, connection):
    secret = Secret(f"inf_{user.name.lower()}_key")
    return store(user=user, connection=connection, secret=secret, label=f"{user.name}'s", scopes=["*"])


@pytest.fixture
def bills_key(bill, acme_connection, api):
    return key_of(bill, acme_connection)


@pytest.fixture
def adas_key(ada, acme_connection, api):
    return key_of(ada, acme_connection)


def quote(engine, hours="3", **changes):
    paid = amounts.paid_time(engine)
    made = Quote.more(Decimal(hours), paid)
    return Quote(**{**vars(made), **changes})


def ask(engine, user, key, hours="3", reason="finish the render", **changes):
    """Confirm a dialog: what a person does, without the page."""
    asked = changes.pop("quote", None) or quote(engine, hours, **changes)
    return buy(asked, reason, engine=engine, user=user, key=key, origin=ORIGIN, now=clocks.now())


@pytest.fixture
def asked(engine, bill, bills_key):
    return ask(engine, bill, bills_key)


def sweep():
    """Do what is due now, as the worker's thread does."""
    for job in list(due(clocks.now())):
        job()


def settle(clock, operation, minutes=40):
    """Let so much time pass, swept as it goes and after some minutes more seldom, and return the operation."""
    end = clock.at + timedelta(minutes=minutes)
    while clock.at < end:
        sweep()
        clock.advance(seconds=30 if end - clock.at > timedelta(minutes=minutes - 5) else 60)
    return fresh(operation)


def fresh(operation):
    return Operation.objects.select_related("extension").get(pk=operation.pk)


def booked(team):
    return LedgerEntry.objects.of(team).aggregate(sum=Sum("cost"))["sum"] or 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Real sockets, but nobody waits a minute for an answer that does not come."""
    monkeypatch.setattr(send, "ANSWER_SECONDS", 0.4)


@pytest.fixture(autouse=True)
def books(request):
    """What every test ends with: the API's charges are what the ledger says. `uncounted` says why one does not."""
    if "api" not in request.fixturenames:
        yield
        return
    acme, api = request.getfixturevalue("acme"), request.getfixturevalue("api")
    yield
    if not request.node.get_closest_marker("uncounted"):
        assert booked(acme) == api.charged
