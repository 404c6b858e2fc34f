"""ASVS 1.2.4, 1.3.2: what PostgreSQL takes for no text, and what is no id, is refused or unknown: never a crash."""

import pytest

from engines.models import Engine
from engines.snapshots import refresh
from portal import clock
from portal.accounts.access import TABLE
from portal.vault.models import Connection
from tests.engines.scripted_api import ScriptedApi
from tests.security.test_injection import ASKS, MARK, asked, forms
from tests.security.test_roles import ask, browser_of
from tests.security.world import engine_of


def test_nothing_is_broken_by_a_null(world):
    """PostgreSQL takes none: what carries one is refused, or loses it, and is no crash."""
    browser, found = browser_of(world.people["ada"]), {}
    for name, methods in TABLE.items():
        for form in forms(world, name, "a\0b"):
            for method in sorted(set(methods) & {"GET", "POST"}):
                found[name, method] = ask(browser, world, name, method, "ada", form).status_code
    found |= {(name, "asked"): browser.get(asked(world, name, "a\0b")).status_code for name in ASKS}
    assert {cell: status for cell, status in found.items() if status >= 500 and cell[0] != "readyz"} == {}


@pytest.mark.parametrize("path", ["/engines/{}/", "/engines/{}/drain/", "/engines/many/drain/?uid={}", "/join/{}/"])
@pytest.mark.parametrize("uid", ["%00", "a%00b", "%F0%9F%98%80", "%ED%A0%80", "a%0d%0ab", "x" * 2000, "..%2f..%2fetc"])
def test_an_odd_id_is_unknown(world, path, uid):
    assert browser_of(world.people["ada"]).get(path.format(uid)).status_code in (400, 404, 403)


def test_an_api_that_says_nulls_is_read_all_the_same(world):
    api = ScriptedApi()
    api.engines = {"eng_null": engine_of("eng_null", f"a\0b\ud800{MARK}", status="running")}
    Connection.objects.filter(pk=world.connection.pk).update(base_url=api.url, refresh_due_at=None)
    world.connection.refresh_from_db()
    world.store_key(world.people["ada"])  # the one before is sealed for the address before
    refresh(world.connection.pk, now=clock.now())
    api.close()
    world.connection.refresh_from_db()
    assert world.connection.last_error == ""
    assert Engine.objects.get(uid="eng_null").name == f"ab?{MARK}"
    page = browser_of(world.people["ada"]).get("/engines/eng_null/").content.decode()
    assert "\0" not in page
    assert MARK in page
