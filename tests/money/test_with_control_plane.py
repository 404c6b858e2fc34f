"""The portal buys from the real control plane, over HTTP; what that one charged is what the portal booked.

The E cases in which nothing goes wrong on the wire are here once more, against what people will really buy from.
"""

from datetime import timedelta
from functools import partial

import pytest
from django.db.models import F, Sum
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from engines import snapshots
from engines.access import client_for
from engines.controlplane import extend, money
from engines.controlplane.enums import EntryKind
from engines.controlplane.models import Engine as TheirEngine
from engines.controlplane.models import Extension as Held
from engines.controlplane.models import Instance
from engines.controlplane.models import LedgerEntry as TheirEntry
from engines.controlplane.models import Team as TheirTeam
from engines.models import Engine, Freeze
from engines.operations.send import send as wake
from portal import clock as clocks
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey
from tests.controlplane import conftest as theirs
from tests.controlplane.conftest import caller, cloud, funds, rented, team  # noqa: F401 (fixtures)
from tests.money.conftest import ask, booked, fresh, quote, settle, sweep
from tests.money.test_limits import at_once

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


class Shop:
    """Where hours of the rented engine are to be had, and what Bill's and Ada's dialogs show of them."""

    def __init__(self, connection, clock, uid, keys):
        self.connection, self.clock, self.uid, self.keys = connection, clock, uid, keys

    def engine(self):
        """As the portal reads it now."""
        self.clock.advance(seconds=1)
        with client_for(next(iter(self.keys.values()))) as client:
            snapshots.apply(self.connection, [client.get(self.uid)], read_at=self.clock.at)
        return Engine.objects.get(uid=self.uid)

    def ask(self, hours="3", user=None, shown=None, **changes):
        user = user or next(iter(self.keys))
        engine = Engine.objects.get(uid=self.uid) if shown else self.engine()
        if shown:
            changes["quote"] = shown
        return ask(engine, user, self.keys[user], hours, **changes)


@pytest.fixture
def shop(served, rented, caller, clock, bill, ada, acme_connection):  # noqa: F811
    clock.at = timezone.now()
    Connection.objects.update(base_url=served)
    acme_connection.refresh_from_db()
    held = {"connection": acme_connection, "secret": Secret(caller.key), "scopes": ["*"]}
    keys = {user: store(user=user, label=f"{user}'s", **held) for user in (bill, ada)}
    return Shop(acme_connection, clock, rented.id, keys)


@pytest.fixture
def bought(shop):
    """Returns what asks for hours of the rented engine in Bill's name."""
    return shop.ask


@pytest.fixture(autouse=True)
def books(request, acme, db):
    """What every test ends with, as with the stand-in."""
    yield
    charged = TheirEntry.objects.filter(kind=EntryKind.EXTEND).aggregate(sum=Sum("amount_microcents"))["sum"] or 0
    if not request.node.get_closest_marker("uncounted"):
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


def test_e2_a_form_that_is_sent_twice_at_once_is_one_purchase(shop, cloud):  # noqa: F811
    shown = quote(shop.engine())
    ends = at_once(*[partial(shop.ask, shown=shown)] * 2)
    sweep()
    assert [end.pk for end in ends] == [shown.id] * 2
    assert (fresh(ends[0]).extension.outcome, cloud.count("set_auto_delete")) == ("confirmed", 1)


def test_e3_the_same_form_after_it_was_bought_buys_nothing_more(shop, cloud):  # noqa: F811
    shown = quote(shop.engine())
    shop.ask(shown=shown)
    sweep()
    assert shop.ask(shown=shown).state == "succeeded"
    sweep()
    assert cloud.count("set_auto_delete") == 1


def test_e6_two_people_who_want_the_same_are_charged_once(shop, bill, ada, cloud):  # noqa: F811
    engine = shop.engine()
    for user, shown in ((bill, quote(engine, "1")), (ada, quote(engine, "1"))):
        operation = shop.ask(user=user, shown=shown)
        sweep()
    assert (fresh(operation).extension.outcome, cloud.count("set_auto_delete")) == ("satisfied", 1)


def test_e7_the_second_of_two_confirms_once_more(shop, bill, ada, cloud):  # noqa: F811
    engine = shop.engine()
    first, second = quote(engine, "3"), quote(engine, "5")
    shop.ask(user=bill, shown=first)
    sweep()
    late = shop.ask(user=ada, shown=second)
    sweep()
    assert (fresh(late).state, "extended by Bill" in fresh(late).note) == ("needs_reconfirm", True)
    again = shop.ask("5", user=ada, retry_of=str(late.pk))
    sweep()
    assert (fresh(again).extension.outcome, cloud.count("set_auto_delete")) == ("confirmed", 2)


CHANGED_THERE = {
    "E10 price": ({"hourly_price": 121}, "needs_reconfirm", "outdated"),
    "E11 end": ({"delete_at": F("delete_at") + timedelta(hours=1)}, "needs_reconfirm", "outdated"),
    "E11 late enough": ({"delete_at": F("delete_at") + timedelta(hours=9)}, "succeeded", "satisfied"),
    "E12 price of nothing": ({"hourly_price": 0}, "refused", "not_sent"),
}


@pytest.mark.parametrize(("change", "state", "outcome"), CHANGED_THERE.values(), ids=CHANGED_THERE)
def test_what_changed_there_meanwhile_is_not_bought(bought, cloud, change, state, outcome):  # noqa: F811
    operation = bought()
    Instance.objects.update(**change)
    sweep()
    done = fresh(operation)
    assert (done.state, done.extension.outcome, cloud.count("set_auto_delete")) == (state, outcome, 0)


@pytest.mark.uncounted("a person has yet to say that it was charged")
def test_e30_an_engine_that_is_deleted_there_meanwhile_proves_nothing(bought, cloud, clock):  # noqa: F811
    cloud.fail["set_auto_delete"] = "lose_answer"
    operation = bought()
    sweep()
    cloud.fail.clear()
    settled_there()
    TheirEngine.objects.update(deleted_at=timezone.now())
    assert settle(clock, operation, minutes=2).extension.outcome == "ambiguous"


def freeze(acme, bill):
    Freeze.objects.create(team=acme, at=timezone.now(), by="Ada", reason="budget")


def lose_the_role(acme, bill):
    bill.memberships.update(role="viewer")


def delete_the_key(acme, bill):
    StoredKey.objects.filter(user=bill).delete()


@pytest.mark.parametrize("loss", [freeze, lose_the_role, delete_the_key], ids=["E33", "E34", "E35"])
def test_what_may_no_longer_be_bought_is_not_asked_for_there(bought, cloud, acme, bill, loss):  # noqa: F811
    operation = bought()
    loss(acme, bill)
    sweep()
    assert (fresh(operation).state, cloud.count("set_auto_delete")) == ("cancelled", 0)


def test_e36_a_message_that_comes_five_times_is_one_purchase(bought, cloud):  # noqa: F811
    operation = bought()
    at_once(*[lambda: wake(str(operation.pk), clocks.now())] * 5)
    assert (fresh(operation).extension.outcome, cloud.count("set_auto_delete")) == ("confirmed", 1)


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
