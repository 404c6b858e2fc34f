"""A stored key's plaintext is nowhere: in no page, log, message, audit entry or database, whatever went wrong."""

import base64
import subprocess
import threading
from dataclasses import replace
from urllib.parse import quote

import pytest

from portal import services
from portal.processes import spawn
from tests.harness import Stack, csrf, drain, place, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

ADMIN = "admin@demo.example"
PAGES = (
    "/engines/", "/engines/new/", "/engines/new/cloud/", "/operations/", "/cloud-time/", "/cloud-time/ledger.csv",
    "/audit/", "/audit/1/", "/keys/", "/connections/", "/connections/new/", "/team/", "/team/invite/", "/accounts/",
    "/accounts/confirm/", "/nowhere/", "/metrics", "/readyz",
)  # fmt: skip
DIALOGS = ("", "drain/", "update/", "restart/", "stop/", "rename/", "delete/", "extend/")
COMMANDS = ("verify_audit", "checkpoint_audit", "rotate_vault_keys", "freeze_spending")


@pytest.fixture(scope="module")
def seen():
    """Everything that people and files got to see of a life with trouble, every process logging at DEBUG."""
    with place() as one, Stack(replace(one, environment={**one.environment, "LOG_LEVEL": "debug"})) as stack:
        key = stack.keys[ADMIN]
        shown = live_through_trouble(stack, key)
        shown |= {f"manage.py {name}": command(stack, name) for name in COMMANDS}
        files = {str(path): path.read_bytes() for path in stack.place.data.rglob("*") if path.is_file()}
        yield key, shown, files | {"database": dump(stack)}


def live_through_trouble(stack, key):
    """What each page said, by its address."""
    uid = stack.engine("canary", cpus=1)
    browser = stack.sign_in(ADMIN)
    with Listener(stack, browser) as stream:
        shown = trouble(stack, browser, key, uid)
    shown |= {path: browser.get(path).text for path in PAGES}
    shown |= {path: browser.get(path).text for path in (f"/engines/{uid}/{dialog}" for dialog in DIALOGS)}
    shown["ledger"] = browser.post("/cloud-time/ledger.csv", data=csrf(browser)).text or "(nothing)"
    for kind in ("csv", "jsonl"):
        shown[kind] = browser.post("/audit/export/", data={"format": kind, **csrf(browser)}).text
    return shown | {"stream": stream.heard}


class Listener:
    """An open page's event stream, to its end."""

    def __init__(self, stack, browser):
        self.heard, self._browser = "", browser
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._thread.join(20)  # a word comes every 15 s

    _ended = False

    def _listen(self):
        with self._browser.stream("GET", "/live/", timeout=30) as answer:
            for text in answer.iter_text():
                self.heard += text
                if self._ended:
                    return


def command(stack, name):
    """What the command says, at DEBUG."""
    words = ["--help"] if name == "freeze_spending" else []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = spawn(services.manage(stack.place, name, name, *words), **pipes)
    return process.communicate(timeout=60)[0].decode()


def trouble(stack, browser, key, uid):
    wait_for(lambda: browser.get(f"/engines/{uid}/").status_code == 200, 30, "engine in the portal")
    connection = stack.query("SELECT id FROM vault_connection")[0][0]
    shown = {"entered": enter(browser, connection, key), "refused": enter(browser, connection, key + "x")}
    stack.kill("controlplane")
    shown["unanswered"] = enter(browser, connection, key)
    operation = drain(browser, uid, "with the API away")
    wait_for(lambda: "Nothing was sent" in browser.get(operation).text, 30, "failed attempt")
    stack.start("controlplane")
    wait_for(lambda: "Succeeded" in browser.get(operation).text, 90, "end of the drain")
    return shown | {"operation": browser.get(operation).text}


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
    # In base64 it looks different for each of three places that it may begin at; its ends depend on what is around it.
    encoded = [base64.b64encode(b"x" * before + raw).rstrip(b"=")[4 if before else 0 : -4] for before in range(3)]
    return [raw, quote(key, safe="").encode(), raw.hex().encode(), *encoded]


def test_it_was_looked_for_where_it_would_be(seen):
    """The entered key's own row, log lines of every process at DEBUG, and words of each page and command."""
    _, shown, files = seen
    everything = b"".join(body for name, body in files.items() if "portal.sqlite3" in name) + files["database"]
    assert b"again" in everything  # the key's label
    assert b"v1." in everything  # and the key, sealed
    assert b"engines.sweep" in b"".join(body for name, body in files.items() if "/broker/" in name)
    logs = {name.rpartition("/")[2]: body for name, body in files.items() if name.endswith(".log")}
    assert {"worker.log", "portal.log", "beat.log", "controlplane.log"} <= set(logs)
    assert b" DEBUG " in logs["worker.log"]
    assert b"/keys/" in logs["portal.log"]
    assert "again" in shown["/keys/"]
    assert "key.stored" in shown["csv"]
    assert "with the API away" in shown["jsonl"]
    assert "event: up" in shown["stream"]
    assert "topics" in shown["stream"]
    assert "all whole" in shown["manage.py verify_audit"]
    assert "re-encrypted" in shown["manage.py rotate_vault_keys"]
    assert [name for name, text in shown.items() if not text] == []


def test_it_would_be_found(seen):
    key, _, _ = seen
    for text in (key, f"Bearer {key}", quote(f"?key={key}"), base64.b64encode(f":{key}".encode()).decode()):
        assert any(word in text.encode() for word in spellings(key)), text


def test_no_page_shows_the_key(seen):
    key, shown, _ = seen
    assert [name for name, text in shown.items() if any(word.decode() in text for word in spellings(key))] == []


def test_no_file_holds_the_key(seen):
    key, _, files = seen
    assert [name for name, body in files.items() if any(word in body for word in spellings(key))] == []
