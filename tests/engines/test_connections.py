"""A team's connections: an admin's, within the policy of addresses, and another address drops the keys."""

import ast
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection as database
from django.db import transaction

from engines.models import Engine, LedgerEntry, Operation
from engines.money.buy import rent
from engines.money.order import Order
from engines.snapshots import refresh
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import NOW, put

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent.parent
HOSTED = {"name": "Hosted", "address": "https://api.inference.sh/"}


def page(answer):
    return answer.content.decode()


def test_an_admin_adds_a_connection(ada, acme, confirmed):
    assert confirmed(ada).post("/connections/new/", HOSTED)["Location"] == "/keys/"
    assert Connection.objects.get().base_url == "https://api.inference.sh"
    entry = Entry.objects.get(action="connection.added")
    assert (entry.actor, entry.after["address"]) == (ada, "https://api.inference.sh")


@pytest.mark.parametrize("address", ["https://evil.example", "http://10.0.0.1", "https://169.254.169.254", "x", ""])
def test_an_address_beyond_the_policy_is_refused(ada, confirmed, address):
    answer = confirmed(ada).post("/connections/new/", {"name": "x", "address": address})
    assert (answer.status_code, Connection.objects.count()) == (422, 0)


def test_the_page_says_which_hosts_are_allowed(ada, confirmed, settings):
    settings.CONNECTION_HOSTS = ["engines.acme.example:8443"]
    assert "Allowed here: engines.acme.example:8443" in page(confirmed(ada).get("/connections/new/"))


def test_the_same_address_twice_is_said_to_be_there(ada, confirmed):
    browser = confirmed(ada)
    browser.post("/connections/new/", HOSTED)
    assert "already" in page(browser.post("/connections/new/", HOSTED))
    assert Connection.objects.count() == 1


def test_another_address_drops_the_keys(ada, olgas_key, acme_connection, confirmed):
    browser = confirmed(ada)
    assert "drops all 1 key<" in page(browser.get(f"/connections/{acme_connection.pk}/"))
    browser.post(f"/connections/{acme_connection.pk}/", HOSTED)
    acme_connection.refresh_from_db()
    assert (acme_connection.base_url, StoredKey.objects.count()) == ("https://api.inference.sh", 0)
    entry = Entry.objects.get(action="connection.changed")
    assert (entry.before["address"], entry.detail["keys_dropped"]) == ("http://127.0.0.1:1", 1)
    gone = Entry.objects.get(action="key.removed")
    assert (gone.actor, gone.detail["owner"], gone.reason) == (
        ada,
        "Olga",
        "The connection leads to another address now.",
    )


def test_another_name_keeps_the_keys(ada, olgas_key, acme_connection, confirmed):
    sent = {"name": "Renamed", "address": acme_connection.base_url}
    confirmed(ada).post(f"/connections/{acme_connection.pk}/", sent)
    acme_connection.refresh_from_db()
    assert (acme_connection.name, StoredKey.objects.count()) == ("Renamed", 1)


def test_another_spelling_of_the_same_address_keeps_the_keys(ada, olgas_key, acme_connection, confirmed):
    sent = {"name": acme_connection.name, "address": "HTTP://127.0.0.1:1/"}
    confirmed(ada).post(f"/connections/{acme_connection.pk}/", sent)
    assert StoredKey.objects.count() == 1
    assert not Entry.objects.filter(action="connection.changed").exists()


def test_an_address_stays_while_operations_are_open(ada, operation, confirmed):
    pk = operation.engine.connection_id
    assert "not finished" in page(confirmed(ada).post(f"/connections/{pk}/", HOSTED))
    assert StoredKey.objects.count() == 1
    put(operation, "succeeded", finished_at=NOW)
    confirmed(ada).post(f"/connections/{pk}/", HOSTED)
    assert Connection.objects.get().base_url == "https://api.inference.sh"


def test_a_removed_connection_takes_its_keys_and_engines_along(ada, operation, confirmed):
    put(operation, "succeeded", finished_at=NOW)
    pk = operation.engine.connection_id
    browser = confirmed(ada)
    assert "1 engine and 1 operation leave" in page(browser.get(f"/connections/{pk}/remove/"))
    browser.post(f"/connections/{pk}/remove/")
    left = [model.objects.count() for model in (Connection, StoredKey, Engine, Operation)]
    assert left == [0, 0, 0, 0]
    assert Entry.objects.get(action="connection.removed").before["address"] == "http://127.0.0.1:1"
    assert Entry.objects.filter(action="engine.drain").exists()
    assert LedgerEntry.objects.count() == 0


def test_a_connection_stays_while_operations_are_open(ada, operation, confirmed):
    answer = confirmed(ada).post(f"/connections/{operation.engine.connection_id}/remove/")
    assert (answer.status_code, Connection.objects.count()) == (409, 1)


@pytest.fixture
def order(ada, acme_connection):
    """Orders a machine at the connection: there is no engine of it yet."""
    key = store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["*"])
    place = {"cloud": "local", "region": "here", "instance_type": "cpu-2", "rental_type": "on_demand"}
    made = Order.new("burst", **place, hardware="2 vCPUs", hours=Decimal(3), price=120)
    origin = Origin(request_id="req-1", address="10.0.0.9", role="admin")
    return lambda: rent(made, "more room", user=ada, key=key, origin=origin, now=NOW)


@pytest.mark.parametrize("state", ["requested", "unknown", "needs_attention"])
def test_a_connection_stays_while_a_machine_is_ordered_there(ada, order, acme_connection, confirmed, state):
    put(order(), state)
    browser, path = confirmed(ada), f"/connections/{acme_connection.pk}/"
    assert browser.post(f"{path}remove/").status_code == 409
    assert "not finished" in page(browser.post(path, HOSTED))
    assert Operation.objects.get().extension.cost == 360_000_000
    assert (Connection.objects.get().base_url, StoredKey.objects.count()) == ("http://127.0.0.1:1", 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["", "remove/"])
def test_a_machine_that_is_ordered_at_that_moment_keeps_its_connection(ada, order, acme_connection, confirmed, step):
    asked = threading.Event()

    def order_slowly():
        with transaction.atomic():
            order()
            asked.set()
            threading.Event().wait(0.3)  # whoever removes it comes meanwhile
        database.close()

    ordering = threading.Thread(target=order_slowly)
    ordering.start()
    assert asked.wait(10)
    answer = confirmed(ada).post(f"/connections/{acme_connection.pk}/{step}", HOSTED)
    ordering.join(10)
    assert answer.status_code in (409, 422)
    assert Operation.objects.get().new_at.base_url == "http://127.0.0.1:1"


@pytest.mark.parametrize("path", ["/connections/new/", "/connections/{}/", "/connections/{}/remove/"])
def test_who_signed_in_long_ago_confirms_first(ada, acme_connection, confirmed, path):
    answer = confirmed(ada, ago=601).post(path.format(acme_connection.pk), HOSTED)
    assert answer["Location"].startswith("/accounts/confirm/")
    assert Connection.objects.get().base_url == "http://127.0.0.1:1"


@pytest.mark.parametrize("path", ["/connections/{}/", "/connections/{}/remove/"])
def test_another_team_s_connection_is_not_there(mallory, acme_connection, confirmed, path):
    browser = confirmed(mallory)
    address = path.format(acme_connection.pk)
    assert [browser.get(address).status_code, browser.post(address, HOSTED).status_code] == [404, 404]
    assert "Acme" not in page(browser.get("/connections/"))
    assert Connection.objects.get().base_url == "http://127.0.0.1:1"


def test_the_keys_page_leads_an_admin_to_the_connections(ada, olga, acme_connection, client_of):
    assert 'href="/connections/"' in page(client_of(ada).get("/keys/"))
    assert 'href="/connections/"' not in page(client_of(olga).get("/keys/"))


def test_a_connection_to_this_machine_is_not_called_where_that_is_not_allowed(api, olgas_key, settings):
    settings.CONNECTION_NETWORKS = []
    refresh(olgas_key.connection_id, NOW)
    assert api.requests == []
    assert "may not reach" in Connection.objects.get().last_error


def test_every_client_of_the_fleet_is_opened_within_the_policy():
    found = []
    for path in (ROOT / "engines").rglob("*.py"):
        if "controlplane" in path.parts or "agent" in path.parts:
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found += [path.name for call in calls if getattr(call.func, "id", "") == "EnginesClient"]
    assert found == ["access.py"]
