"""A stored key's plaintext is nowhere: in no page, log, message, audit entry or database, whatever went wrong."""

import base64
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.harness import Stack, csrf, drain, place, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

ADMIN = "admin@demo.example"
PAGES = ("/engines/", "/operations/", "/audit/", "/audit/1/", "/keys/", "/team/", "/nowhere/", "/metrics", "/readyz")


@pytest.fixture(scope="module")
def seen():
    """Everything that people and files got to see of a life with trouble, every process logging at DEBUG."""
    with place() as one, Stack(replace(one, environment={**one.environment, "LOG_LEVEL": "debug"})) as stack:
        key = stack.keys[ADMIN]
        pages = live_through_trouble(stack, key)
        files = {str(path): path.read_bytes() for path in stack.place.data.rglob("*") if path.is_file()}
        yield key, pages, files | {"database": dump(stack)}


def live_through_trouble(stack, key):
    uid = stack.engine("canary", cpus=1)
    browser = stack.sign_in(ADMIN)
    pages = trouble(stack, browser, key, uid)
    return [*pages, *(browser.get(page).text for page in (*PAGES, f"/engines/{uid}/"))]


def trouble(stack, browser, key, uid):
    wait_for(lambda: browser.get(f"/engines/{uid}/").status_code == 200, 30, "engine in the portal")
    connection = stack.query("SELECT id FROM vault_connection")[0][0]
    pages = [enter(browser, connection, key), enter(browser, connection, key + "x")]
    stack.kill("controlplane")
    pages.append(enter(browser, connection, key))
    operation = drain(browser, uid, "with the API away")
    wait_for(lambda: "Nothing was sent" in browser.get(operation).text, 30, "failed attempt")
    stack.start("controlplane")
    wait_for(lambda: "Succeeded" in browser.get(operation).text, 90, "end of the drain")
    return [*pages, browser.get(operation).text]


def enter(browser, connection, key):
    """Enter the key on the Keys page and return what is shown then."""
    form = {"connection": connection, f"c{connection}-label": "again", f"c{connection}-secret": key, **csrf(browser)}
    return browser.post("/keys/", data=form).text


def dump(stack):
    if "DATABASE_URL" not in stack.place.environment:
        return b""  # SQLite's file is among the files
    tables = stack.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(f"""{name}: {stack.query(f'SELECT * FROM "{name}"')}""" for (name,) in tables).encode()


def spellings(key):
    raw = key.encode()
    encoded = base64.b64encode(raw).rstrip(b"=")[:-1]  # its last letter depends on what follows
    return [raw, quote(key, safe="").encode(), raw.hex().encode(), encoded]


def test_it_was_looked_for_where_it_would_be(seen):
    _, _, files = seen
    assert any(name.endswith("worker.log") for name in files)
    assert any("vault_storedkey" in str(body) for name, body in files.items() if "portal.sqlite3" in name or body)


def test_no_page_shows_the_key(seen):
    key, pages, _ = seen
    assert [page[:80] for page in pages if any(word.decode() in page for word in spellings(key))] == []


def test_no_file_holds_the_key(seen):
    key, _, files = seen
    assert [name for name, body in files.items() if any(word in body for word in spellings(key))] == []
