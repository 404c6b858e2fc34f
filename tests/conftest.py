"""Acme's cast: Ada (Admin), Olga (Operator), Bill (Billing), Audra (Auditor), Victor (Viewer); Mallory is outside."""

import itertools
import os
import time
from pathlib import Path

import pytest
import time_machine
from django.core.servers.basehttp import ThreadedWSGIServer
from django.db import connection, connections, transaction
from django.test import Client
from django.test.testcases import LiveServerThread

from engines.api import client
from engines.money.guard import LEDGER
from portal import rates
from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.audit import guard
from portal.vault.models import Connection
from tests.migrated import own_test_database

ROOT = Path(__file__).parent
# What the database has a say in: money, drains, the log, keys, and what two people may do at once. The rest is pages.
STORED = tuple(ROOT / room for room in ("audit", "controlplane", "creating", "engines", "money", "vault"))
STORED += tuple(ROOT / "accounts" / f"test_{name}.py" for name in ("factors", "invitations", "members", "unproven"))
STORED += tuple(ROOT / "security" / f"test_{name}.py" for name in ("canary", "closed", "nulls"))


def pytest_collection_modifyitems(config, items):
    """On PostgreSQL, run what the database has a say in; the rest has been run on SQLite and would be repeated."""
    if connection.vendor != "postgresql":
        return
    stored = [item.get_closest_marker("processes") is not None or uses_database(item) for item in items]
    config.hook.pytest_deselected(items=[item for item, kept in zip(items, stored, strict=True) if not kept])
    items[:] = list(itertools.compress(items, stored))


def uses_database(item):
    if not any(item.path.is_relative_to(stored) for stored in STORED):
        return False
    fixtures = {"db", "transactional_db"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures) or item.get_closest_marker("django_db") is not None


@pytest.fixture(scope="session", autouse=True)
def another_day():
    """AT=2027-07-01T23:50Z runs the tests as if it were then: none may depend on the day."""
    if "AT" not in os.environ:
        yield
        return
    with time_machine.travel(os.environ["AT"]):
        yield


@pytest.fixture(scope="session")
def django_db_keepdb():
    """Django migrates what it finds: a copy, made below, in which nothing is left to do."""
    return True


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix):
    for each in connections.all():
        own_test_database(each.alias, each.creation._get_test_db_name())


@pytest.fixture(scope="session", autouse=True)
def quickly_emptied():
    """Tests with real transactions empty all tables at their end: only those with rows, past the triggers that refuse
    it, and without the content types and permissions that Django would make anew and nobody asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "execute_sql_flush", lambda self, _: empty(self.connection))
        patch.setattr("django.core.management.commands.flush.emit_post_migrate_signal", lambda *_: None)
        yield


def empty(database):
    tables = database.introspection.django_table_names(only_existing=True, include_views=False)
    with transaction.atomic(using=database.alias), database.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in tables))
        filled = [name for (name,) in cursor.fetchall()]
        guards = [guard, LEDGER] if database.alias == "default" and filled else []
        for each in guards:
            each.lower(database)
        if filled and database.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
        elif filled:
            for name in filled:
                cursor.execute(f"DELETE FROM {name}")
        for each in guards:
            each.put_up(database)


class PromptServer(ThreadedWSGIServer):
    """It ends when asked to, not at the next half second: dozens of tests have one each."""

    def serve_forever(self, poll_interval=0.01):
        super().serve_forever(poll_interval)


LiveServerThread.server_class = PromptServer


@pytest.fixture(scope="session", autouse=True)
def prompt_retries():
    """What the API did not answer is asked again at once; a Retry-After is waited for as ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "PAUSE", (0.0, 0.0))
        yield


@pytest.fixture(autouse=True)
def a_new_minute():
    """Nobody has asked for anything yet: tests share one process, and people's ids come back."""
    rates.limiter.storage.reset()


@pytest.fixture
def acme(db):
    return Team.objects.create(slug="acme", name="Acme")


@pytest.fixture
def other_team(db):
    return Team.objects.create(slug="mallory-inc", name="Mallory Inc")


def member(name, role, team):
    user = User.objects.create_user(f"{name}@{team.slug}.example", "correct horse battery", name=name.title())
    Membership.objects.create(user=user, team=team, role=role)
    return user


@pytest.fixture
def ada(acme):
    return member("ada", Role.ADMIN, acme)


@pytest.fixture
def olga(acme):
    return member("olga", Role.OPERATOR, acme)


@pytest.fixture
def bill(acme):
    return member("bill", Role.BILLING, acme)


@pytest.fixture
def audra(acme):
    return member("audra", Role.AUDITOR, acme)


@pytest.fixture
def victor(acme):
    return member("victor", Role.VIEWER, acme)


@pytest.fixture
def mallory(other_team):
    return member("mallory", Role.ADMIN, other_team)


@pytest.fixture
def acme_connection(acme):
    return Connection.objects.create(team=acme, name="Acme's API", base_url="http://127.0.0.1:1")


@pytest.fixture
def confirmed(db):
    """A browser of that person, who signed in and so proved who they are, that many seconds ago."""

    def sign_in(user, ago=0):
        client = Client()
        client.force_login(user)
        session = client.session
        session["account_authentication_methods_user"] = str(user.pk)
        session["account_authentication_methods"] = [{"method": "password", "at": time.time() - ago}]
        session.save()
        return client

    return sign_in


@pytest.fixture
def client_of(confirmed):
    """A browser of that person, signed in just now."""
    return confirmed
