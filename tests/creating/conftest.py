"""The portal's pages and the real control plane at an address of its own, in one process; Ada's key to it."""

import time

import pytest
from django.db.models import Sum
from django.http import HttpResponse, JsonResponse
from pytest_django.live_server_helper import LiveServer

from engines.controlplane.enums import EntryKind
from engines.controlplane.models import LedgerEntry as TheirEntry
from engines.enums import Verb
from engines.models import Operation
from engines.money import send
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.controlplane.conftest import caller, cloud, funds, team  # noqa: F401 (fixtures)
from tests.money.conftest import booked

ANSWER_SECONDS = 1.5


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "creating":
            item.add_marker(pytest.mark.django_db(transaction=True, databases=["default", "controlplane"]))


class Wire:
    """What happens to the orders between the portal and the control plane, and how many came."""

    def __init__(self):
        self.faults = []  # one each: "lost before", "lost after", or a status to answer with in its place
        self.orders = 0


WIRE = Wire()


def routed_to_the_api(get_response):
    """A middleware: the addresses of the portal are the settings' own. It does to orders what the wire may do."""

    def middleware(request):
        request.urlconf = "engines.controlplane.urls"
        if (request.method, request.path) != ("POST", "/engines"):
            return get_response(request)
        WIRE.orders += 1
        fault = WIRE.faults.pop(0) if WIRE.faults else None
        if isinstance(fault, int):
            return JsonResponse({"title": "trouble"}, status=fault)
        answer = get_response(request) if fault != "lost before" else HttpResponse(status=204)
        if fault:
            time.sleep(2 * ANSWER_SECONDS)  # the one who asked has gone by then
        return answer

    return middleware


@pytest.fixture(autouse=True)
def books(request):
    """What every test ends with: their entries about creations are what ours says, and nothing was ordered twice."""
    if "cloud" not in request.fixturenames:
        yield
        return
    acme, cloud = (request.getfixturevalue(name) for name in ("acme", "cloud"))  # noqa: F811
    yield
    kinds = [EntryKind.CREATE, EntryKind.REFUND]
    charged = TheirEntry.objects.filter(kind__in=kinds).aggregate(sum=Sum("amount_microcents"))["sum"] or 0
    assert cloud.count("create") <= max(1, Operation.objects.filter(verb=Verb.CREATE).count())
    if not request.node.get_closest_marker("uncounted"):
        assert booked(acme) == -charged


@pytest.fixture
def wire(monkeypatch):
    """Real sockets, but nobody waits a minute for an answer that does not come."""
    monkeypatch.setattr(send, "ANSWER_SECONDS", ANSWER_SECONDS)
    WIRE.__init__()
    return WIRE


@pytest.fixture
def served(settings, transactional_db):
    """The control plane's address. Its server begins with its own middleware; then the portal's is back."""
    portal = settings.MIDDLEWARE
    settings.MIDDLEWARE = [*settings.API_MIDDLEWARE, "tests.creating.conftest.routed_to_the_api"]
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    server = LiveServer("127.0.0.1")
    settings.MIDDLEWARE = portal
    yield server.url
    server.stop()


@pytest.fixture
def connection(served, acme_connection):
    Connection.objects.update(base_url=served)
    acme_connection.refresh_from_db()
    return acme_connection


@pytest.fixture
def adas_key(connection, caller, ada):  # noqa: F811
    return store(user=ada, connection=connection, secret=Secret(caller.key), label="Ada's", scopes=["*"])


@pytest.fixture
def browser(adas_key, client_of, ada):
    return client_of(ada)
