"""ASVS 16.2.5, 14.2.1: a stored key is in no page, log line, traceback, row, mail or repr, whatever breaks on the way.

What files and real processes show is looked through in tests/processes/test_canary.py.
"""

import base64
import logging
import traceback
from urllib.parse import quote

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import OperationalError, connection

from engines.operations.sweep import due
from engines.snapshots import refresh
from portal import clock
from portal.accounts.access import TABLE
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.clock import Clock
from tests.engines.scripted_api import ScriptedApi
from tests.security.test_roles import ask, browser_of
from tests.security.world import World

CANARY = "inf_CANARY/0123456789+abcdefghijklmnop"
SPELLINGS = {
    CANARY,
    quote(CANARY, safe=""),
    CANARY.encode().hex(),
    base64.b64encode(CANARY.encode()).decode().rstrip("=")[:-1],
    CANARY.encode().decode("utf-16-le", errors="replace"),
}


def shown_in(text):
    return [word for word in SPELLINGS if word in text]


class Tracker(logging.Handler):
    """Keeps all that is logged, at any level, and of each exception the variables of every frame, as trackers do."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.told, self.exceptions = [], 0

    def emit(self, record):
        self.told.append(f"{record.getMessage()} {vars(record)}")
        if record.exc_info and record.exc_info[1]:
            self.exceptions += 1
            self.told.append(with_locals(record.exc_info[1]))


def with_locals(error):
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain = [told]
    while told := told.__cause__ or told.__context__:
        chain.append(told)
    own = "/tests/"  # what the test itself holds is no finding
    frames = [f"{frame.name} {frame.locals}" for each in chain for frame in each.stack if own not in frame.filename]
    return "\n".join([*frames, repr(error), "".join(traceback.format_exception_only(error))])


@pytest.fixture
def tracker():
    kept = {name: logging.getLogger(name).level for name in ("", "httpx", "httpcore", "authlib", "engines", "portal")}
    found = Tracker()
    root = logging.getLogger()
    root.addHandler(found)
    root.setLevel(logging.DEBUG)
    yield found
    root.removeHandler(found)
    root.setLevel(kept[""])


@pytest.fixture
def api():
    served = ScriptedApi()
    yield served
    served.close()


@pytest.fixture
def world(db, monkeypatch, api):
    """Acme, with the canary for Ada's key and for the one that reads the fleet."""
    Clock.hold(monkeypatch)
    made = World("acme", "Said by Acme", api.url)
    for name in ("ada", "bill", "olga"):
        store(user=made.people[name], connection=made.connection, secret=Secret(CANARY), label="Mine", scopes=["*"])
    Connection.objects.update(last_error="", refresh_due_at=None)
    return made


def fails_with(status):
    return lambda api, _: api.trouble.update(dict.fromkeys(ASKED, (status, "trouble")))


def is_cut(word):
    return lambda api, _: api.trouble.update(dict.fromkeys(ASKED, word))


def refuses(api, _):
    api.refused.add(CANARY)


def breaks_inside(api, monkeypatch):
    monkeypatch.setattr("httpcore._backends.sync.SyncStream.write", bug)


def bug(*_, **__):
    raise RuntimeError("nobody foresaw this")


def loses_its_database(api, monkeypatch):
    def away(*_, **__):
        raise OperationalError("the database is away")

    for name in ("portal.vault.keys.record", "engines.views.keys.save", "engines.views.keys.checked"):
        monkeypatch.setattr(name, away)


ASKED = ["GET /me", "POST /engines/list", "GET /engines/releases", "POST /apikeys", "GET /billing/balance"]
ABOUT_KEYS = (
    "keys", "key-revoke", "engine", "engine-extend", "engine-update", "engine-types", "engine-new", "connections",
    "connection", "cloud-time", "audit", "operation", "account",
)  # fmt: skip
TROUBLES = {
    "nothing": lambda *_: None,
    "401": refuses,
    "403": fails_with(403),
    "500": fails_with(500),
    "reset after": is_cut("reset after"),
    "a bug": breaks_inside,
    "no database": loses_its_database,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_tells_the_key_whatever_breaks(world, api, tracker, monkeypatch, trouble):
    TROUBLES[trouble](api, monkeypatch)
    browser, shown = browser_of(world.people["ada"]), []
    pk = world.connection.pk
    form = {"connection": pk, f"c{pk}-label": "Again", f"c{pk}-secret": CANARY}
    leaking = form | {f"c{pk}-label": f"my {CANARY}"}  # somebody takes the one field for the other
    for body in (form, form | {"how": "rotate"}, form | {f"c{pk}-secret": f"{CANARY} "}, leaking):
        shown.append(browser.post("/keys/", body, follow=True))
    for name in ("key-test", "key-revoke", "engine-new", "engine-extend", "engine-update"):
        shown.append(ask(browser, world, name, "POST", "ada", {"where": "api", "reason": "Rack"}))
    try:
        refresh(pk, now=clock.now())
    except (RuntimeError, OperationalError) as error:
        tracker.told.append(with_locals(error))
    for name in ABOUT_KEYS if trouble != "nothing" else [name for name in TABLE if name != "live"]:
        shown.append(ask(browser, world, name, "GET", "ada"))
    for kind in ("csv", "jsonl"):
        answer = browser.post("/audit/export/", {"format": kind})
        tracker.told.append(b"".join(answer.streaming_content).decode())
    said = [f"{answer.headers}{'' if answer.streaming else answer.content.decode()}" for answer in shown]
    assert [page[:200] for page in said if shown_in(page)] == []
    assert [line[:300] for line in tracker.told if shown_in(line)] == []
    assert tracker.exceptions > 0 or trouble not in ("a bug", "no database")
    assert api.requests or trouble in ("401", "a bug")


@pytest.mark.parametrize("trouble", ["nothing", "401", "500", "reset after", "a bug"])
def test_nor_does_a_worker_that_sends(world, api, tracker, monkeypatch, trouble):
    TROUBLES[trouble](api, monkeypatch)
    for job in list(due(clock.now())):
        try:
            job()
        except RuntimeError as error:
            tracker.told.append(with_locals(error))
    assert [line[:300] for line in tracker.told if shown_in(line)] == []


def test_no_row_and_no_repr_holds_it(world):
    found = []
    for model in apps.get_models():
        if model._meta.app_label != "controlplane":
            for row in model._base_manager.all():
                found.append(f"{model._meta.label}: {row!r} {row} {vars(row)}")
    assert any("StoredKey" in line and "Mine" in line for line in found)
    assert [line[:200] for line in found if shown_in(line)] == []
    assert shown_in(f"{CANARY!r}")
    for secret in (Secret(CANARY), [Secret(CANARY)], {"key": Secret(CANARY)}):
        assert not shown_in(f"{secret} {secret!r} {secret!s:>80}")


def test_no_table_holds_it(world):
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            assert not shown_in(str(cursor.fetchall())), table


def test_no_command_says_it(world, settings, capfd, tmp_path):
    settings.DATA_DIR = tmp_path  # checkpoints are files
    settings.VAULT_KEYS = f"n1:{base64.b64encode(b'n' * 32).decode()},{settings.VAULT_KEYS}"
    for command, *words in (["rotate_vault_keys"], ["verify_audit"], ["verify_audit", "--json"], ["checkpoint_audit"]):
        try:
            call_command(command, *words)
        except (Exception, SystemExit) as error:
            print(with_locals(error))
    out, err = capfd.readouterr()
    assert "keys re-encrypted under n1" in out
    assert not shown_in(out + err)


@pytest.mark.parametrize("told", [CANARY, f"GET /?key={quote(CANARY, safe='')}", repr({"Authorization": CANARY})])
def test_it_would_be_found(tracker, told):
    logging.getLogger("some.library").debug(told)
    assert [line for line in tracker.told if shown_in(line)]
