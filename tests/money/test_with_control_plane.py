"""The portal buys from the real control plane, over HTTP; what that one charged is what the portal booked."""

from datetime import timedelta

import pytest
from django.db.models import Sum
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from engines import snapshots
from engines.access import client_for
from engines.controlplane import extend, money
from engines.controlplane.enums import EntryKind
from engines.controlplane.models import Extension as Held
from engines.controlplane.models import LedgerEntry as TheirEntry
from engines.controlplane.models import Team as TheirTeam
from engines.models import Engine
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.controlplane import conftest as theirs
from tests.controlplane.conftest import caller, cloud, funds, rented, team  # noqa: F401 (fixtures)
from tests.money.conftest import ask, booked, fresh, settle, sweep

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "controlplane"])


@pytest.fixture(autouse=True)
def impatient():
    """Not here: no answer is kept back, and one that takes long is only from a busy machine."""


@pytest.fixture
def api():
    """There is no stand-in here."""


@pytest.fixture
def served(settings, transactional_db):
    """The control plane at an address of its own. Its server begins once the settings are its own."""
    settings.ROOT_URLCONF = "engines.controlplane.urls"
    settings.MIDDLEWARE = settings.API_MIDDLEWARE
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


@pytest.fixture
def bought(served, rented, caller, clock, bill, acme_connection):  # noqa: F811
    """Returns what asks for hours of the rented engine in Bill's name."""
    clock.at = timezone.now()
    Connection.objects.update(base_url=served)
    acme_connection.refresh_from_db()
    secret = Secret(caller.key)
    key = store(user=bill, connection=acme_connection, secret=secret, label="Bill's", scopes=["*"])

    def buy(hours="3"):
        clock.advance(seconds=1)
        with client_for(key) as client:
            snapshots.apply(acme_connection, [client.get(rented.id)], read_at=clock.at)
        return ask(Engine.objects.get(uid=rented.id), bill, key, hours)

    return buy


@pytest.fixture(autouse=True)
def books(acme, db):
    """What every test ends with, as with the stand-in."""
    yield
    charged = TheirEntry.objects.filter(kind=EntryKind.EXTEND).aggregate(sum=Sum("amount_microcents"))["sum"] or 0
    assert booked(acme) == -charged
    assert TheirTeam.objects.get(slug="acme").held_microcents == 0


def settled_there():
    """The control plane asks its cloud again about what is held."""
    Held.objects.update(next_at=timezone.now() - timedelta(seconds=1))
    extend.settle_held()


def test_what_is_bought_is_charged_there_and_booked_here(bought, cloud):  # noqa: F811
    operation = bought("2.75")
    sweep()
    done = fresh(operation)
    assert done.extension.outcome == "confirmed"
    assert (done.extension.cost, cloud.count("set_auto_delete")) == (330_000_000, 1)


def test_ten_purchases_in_a_row_are_ten(bought, acme):
    for _ in range(10):
        operation = bought("0.33")
        sweep()
        assert fresh(operation).extension.outcome == "confirmed"
    assert booked(acme) == 10 * 39_600_000


def test_an_unclear_provider_is_settled_there_and_then_observed_here(bought, cloud, clock):  # noqa: F811
    cloud.fail["set_auto_delete"] = "lose_answer"
    operation = bought()
    sweep()
    assert fresh(operation).state == "unknown"
    cloud.fail.clear()
    settled_there()
    assert settle(clock, operation, minutes=2).extension.outcome == "observed"


def test_an_unclear_provider_that_refuses_in_the_end_charged_nothing(bought, cloud, clock):  # noqa: F811
    cloud.fail["set_auto_delete"] = "lose"
    operation = bought()
    sweep()
    cloud.fail["set_auto_delete"] = "refuse"
    settled_there()
    assert settle(clock, operation).extension.outcome == "not_applied"


def test_a_refusal_of_the_cloud_is_a_refusal_here(bought, cloud):  # noqa: F811
    cloud.fail["set_auto_delete"] = "refuse"
    operation = bought()
    sweep()
    done = fresh(operation)
    assert done.extension.outcome == "refused"
    assert "no machines today" in done.note


def test_a_balance_that_is_too_small_is_said(bought, team):  # noqa: F811
    with theirs.atomic():
        money.book(money.locked(team.pk), EntryKind.DEPOSIT, -87 * money.MICROCENTS_PER_DOLLAR, "for tests")
    operation = bought()
    sweep()
    done = fresh(operation)
    assert done.extension.outcome == "refused"
    assert "can be spent" in done.note


def test_the_balance_is_what_can_be_spent(bought, caller, acme_connection, bill):  # noqa: F811
    sent = fresh(bought())
    with client_for(sent.key) as client:
        before = client.balance()
        sweep()
        assert client.balance() == before - sent.extension.cost
