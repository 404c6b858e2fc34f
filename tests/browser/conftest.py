"""The whole product as processes, and a browser in front of it that remembers every complaint of its console."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from playwright.sync_api import sync_playwright

from engines import snapshots
from portal import clock
from portal.accounts.models import Membership, Team
from portal.accounts.roles import Role
from portal.vault.models import Connection
from tests.accounts.identity_provider import IdentityProvider
from tests.browser.chromium import ARGUMENTS, WAY_OUT, find
from tests.browser.visitor import visiting
from tests.clock import Clock
from tests.controlplane.cloud import TYPES
from tests.engines.scripted_api import ScriptedApi
from tests.harness import PASSWORD, Stack, place
from tests.security.test_roles import browser_of
from tests.security.world import World, engine_of

NAME = "Said by Acme"


# Not for the session: other modules of the run start a Playwright of their own.
@pytest.fixture(scope="module")
def chromium():
    if find() is None:
        pytest.fail(f"There is no Chromium. {WAY_OUT}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stack():
    with place() as one, Stack(one) as running:
        yield running


@pytest.fixture
def visit(chromium, stack):
    """Signs somebody in and returns the page. Fails at the end if the console has complained."""
    contexts, complaints = [], []

    def sign_in(email):
        context = chromium.new_context(base_url=stack.place.portal_url)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/accounts/login/")
        page.get_by_label(re.compile("^E-?mail")).fill(email)
        page.get_by_label(re.compile("^Password")).fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url("**/engines/")
        return page

    yield sign_in
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def world(transactional_db, monkeypatch):
    """Rows of every kind, an API that answers about them, and an engine for each thing that is done to one."""
    Clock.hold(monkeypatch)
    api = ScriptedApi()
    api.types = TYPES
    made = World("acme", NAME, api.url)
    status = {"delete": "stopped"}
    rows = [
        engine_of(f"eng_{many}{verb}", NAME, status.get(verb, "running"), paid=verb in ("restart", "extend"))
        for verb in ("drain", "update", "restart", "stop", "rename", "delete", "extend")
        for many in ("", "many-")
    ]
    snapshots.apply(made.connection, rows, read_at=clock.now())
    Connection.objects.filter(pk=made.connection.pk).update(last_error="")
    second = Team.objects.create(slug="second", name="A second team")
    Membership.objects.create(user=made.people["ada"], team=second, role=Role.VIEWER)
    yield made
    api.close()


@pytest.fixture
def provider(settings):
    provider = IdentityProvider()
    provider.set_up(settings)
    yield provider
    provider.stop()


def elsewhere(ask):
    """Ask the database in a thread of its own: Playwright's has an event loop."""

    def and_close():
        try:
            return ask()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(and_close).result()


@pytest.fixture
def visitor(world, live_server):
    """Ada's browser."""
    ada = browser_of(world.people["ada"])
    with visiting(live_server.url) as visitor:
        visitor.become(ada)
        yield visitor
