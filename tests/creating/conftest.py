"""The portal's pages and the real control plane at an address of its own, in one process; Ada's key to it."""

import pytest
from pytest_django.live_server_helper import LiveServer

from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.controlplane.conftest import caller, cloud, funds, team  # noqa: F401 (fixtures)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "creating":
            item.add_marker(pytest.mark.django_db(transaction=True, databases=["default", "controlplane"]))


def routed_to_the_api(get_response):
    """A middleware: the addresses of the portal are the settings' own."""

    def middleware(request):
        request.urlconf = "engines.controlplane.urls"
        return get_response(request)

    return middleware


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
