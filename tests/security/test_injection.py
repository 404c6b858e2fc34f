"""ASVS 1.2.1, 1.2.2, 1.2.10, 1.3.2: whatever an API or a person says is text, wherever it is shown."""

import csv
import io
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import pytest
from django.core import mail
from django.template import Context, Template
from django.test import Client

from portal import clock
from portal.accounts.access import TABLE
from portal.vault.models import StoredKey
from portal.vault.tell import owners_to_tell
from tests.clock import Clock
from tests.security.test_roles import ask, browser_of
from tests.security.world import World

MARK = "M4RK"
LIVELY = [  # each would do something in a page that takes it for HTML
    f"<img src=x onerror=alert('{MARK}')>",
    f"</script><script>alert('{MARK}')</script>",
    f'"></title></textarea><script src=//evil.example/{MARK}></script>',
    f'"><svg onload=alert("{MARK}")>',
    f'<a href="javascript:alert(1)">{MARK}</a>',
]
QUIET = [
    f"\" onfocus=alert(1) x='{MARK}",
    f"{{{{7*7}}}}{{% now 'Y' %}}{{# #}}${{7*7}}{MARK}",
    f"'; DROP TABLE engines_engine; -- {MARK}",
    f"javascript:alert('{MARK}')",
    f"=HYPERLINK('http://evil','{MARK}')",
    f"＝1+1|' /C calc'!A0\u202e\u2066{MARK}\u0001\u0007\u001b[31m\r\nBcc: victim@evil.example\r\n\r\n",
]
NASTY = LIVELY + QUIET
ADDRESSES = ("href", "src", "action", "formaction", "hx-get", "hx-post", "xlink:href", "poster", "data")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class Page(HTMLParser):
    """What a browser makes of the page: its text, and everything in it that would do something of a stranger's."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.live = [], []
        self.feed(html)
        self.close()

    @property
    def text(self):
        return "\n".join(self.texts)

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.texts += given.values()
        self.live += [f"{tag} {name}" for name in given if name.startswith("on")]
        self.live += [f"{tag} {name}={given[name]}" for name in ADDRESSES if leads_away(given.get(name, ""))]
        if tag in ("base", "iframe", "object", "embed", "style") or (tag == "script" and "src" not in given):
            self.live.append(tag)

    handle_startendtag = handle_starttag


def leads_away(address):
    """Whether it is not of this site, as a browser reads it; a picture that is written out in the page is."""
    parts = urlsplit(address.strip().replace("\\", "/"))
    return bool(parts.netloc or parts.scheme) and not address.startswith(("data:image/", "http://testserver/"))


@pytest.mark.parametrize("text", LIVELY)
def test_what_would_do_something_is_found(text):
    """The rule removed: a template that does not escape. Without this, the tests below could be blind."""
    assert Page(Template("<p>{{ text|safe }}</p>").render(Context({"text": text}))).live
    assert not Page(Template("<p title='{{ text }}'>{{ text }}</p>").render(Context({"text": text}))).live


@pytest.fixture(params=NASTY, ids=range(len(NASTY)))
def said(request, db, monkeypatch):
    """A team in which every field that anybody fills in says it."""
    Clock.hold(monkeypatch)
    made = World("acme", request.param)
    made.freeze()
    return made


SHOWN = (
    "engines", "engine", "engine-drain", "engine-extend", "bulk-drain", "operations", "operation", "batch",
    "cloud-time", "audit", "audit-entry", "team", "member", "keys", "key-revoke", "connections", "connection",
    "account", "passkey-remove", "join",
)  # fmt: skip
EVERYWHERE = set(TABLE) - {"live", "cloud-time-csv", "metrics", "healthz", "readyz"}


def test_it_is_shown_as_text_on_every_page(said):
    browser = browser_of(said.people["ada"])
    names = EVERYWHERE if said.text == NASTY[0] else SHOWN
    pages = {name: Page(ask(browser, said, name, "GET", "ada").content.decode()) for name in names}
    assert {name: page.live for name, page in pages.items() if page.live} == {}
    assert [name for name, page in pages.items() if f"49{MARK}" in page.text] == []
    wanted = said.text if said.text in LIVELY else MARK  # the others lose spaces, and what has no shape
    assert [name for name in SHOWN if wanted not in pages[name].text] == []


FRAGMENTS = {"engines": "fleet", "engine": "engine", "operations": "operations", "operation": "operation"}
FRAGMENTS |= {"batch": "batch", "cloud-time": "cloud-time", "audit": "audit"}
FRAGMENTS |= dict.fromkeys(("engine-drain", "engine-update", "engine-stop", "engine-extend"), "dialog")


def test_nor_does_it_live_in_what_is_swapped_into_a_page(said):
    browser = browser_of(said.people["ada"])
    for name, target in FRAGMENTS.items():
        answer = browser.get(said.url(name), headers={"HX-Request": "true", "HX-Target": target})
        page = Page(answer.content.decode())
        assert page.live == [], name
        assert MARK in page.text, name


FIELDS = (
    "reason", "name", "email", "label", "address", "version", "tag", "typed", "digest", "quote", "order", "ticket",
    "login", "password", "code", "next", "team", "role", "format", "applied", "deadline", "user_day", "credential",
)  # fmt: skip


def forms(world, name, text):
    """What a form may say: the text in every field; and in those alone that a sane form has words in."""
    pk = world.connection.pk
    everywhere = dict.fromkeys([*FIELDS, "connection", f"c{pk}-label", f"c{pk}-secret"], text)
    own = {field: text if field in ("reason", "name", "digest") else said for field, said in world.form(name).items()}
    return everywhere, dict.fromkeys(("reason", "name", f"c{pk}-label", f"c{pk}-secret"), text) | own


@pytest.mark.parametrize("said", [NASTY[2], NASTY[5]], indirect=True, ids=["tag", "quote"])
def test_nor_in_what_is_said_of_a_form(said):
    """The form comes back with what was typed, or leads to a page that says what was done."""
    browser, found = browser_of(said.people["ada"]), {}
    for name in [name for name, methods in TABLE.items() if "POST" in methods]:
        for form in forms(said, name, said.text):
            answer = ask(browser, said, name, "POST", "ada", form)
            assert answer.status_code < 500, name
            if answer.get("Content-Type", "").startswith("text/html"):
                found[name] = Page(answer.content.decode()).live
    assert {name: live for name, live in found.items() if live} == {}
    browser.post("/audit/filters/?q=a", {"name": said.text})
    told = Page(browser.get("/audit/").content.decode())  # what was done is said on the next page
    assert f"Saved the filter “{said.text[:60]}”" in told.text
    assert told.live == []


def test_no_cell_of_a_sheet_is_a_formula(said):
    browser = browser_of(said.people["ada"])
    ledger = browser.post("/cloud-time/ledger.csv").content.decode().removeprefix("\ufeff")
    log = b"".join(browser.post("/audit/export/", {"format": "csv"}).streaming_content).decode()
    for sheet in (ledger, log):
        rows = list(csv.reader(io.StringIO(sheet, newline="")))
        assert MARK in str(rows)
        assert {len(row) for row in rows} == {len(rows[0])}
        assert [cell for row in rows for cell in row if cell.startswith(FORMULA)] == []


def test_no_mail_has_a_line_that_was_slipped_in(said, settings):
    settings.EMAIL_HOST, settings.PORTAL_URL = "mail.example", "https://portal.example"
    browser = browser_of(said.people["ada"])
    browser.post(said.url("invitation-resend"))
    StoredKey.objects.update(failing_since=clock.now(), last_error=said.text[:300])
    for tell in list(owners_to_tell(clock.now())):
        tell()
    assert len(mail.outbox) >= 2
    for one in mail.outbox:
        sent = one.message()
        assert "Bcc" not in sent
        assert one.recipients() == [sent["To"]]
        assert sent.get_content_type() == "text/plain"


ASKED = (
    "q", "status", "state", "version", "gpu", "cloud", "operation", "verb", "actor", "action", "target", "outcome",
    "since", "until", "sort", "cursor", "before", "to", "hours", "where", "available", "guard", "reason",
)  # fmt: skip
ASKS = ("engines", "operations", "audit", "cloud-time", "engine-types", "engine-extend", "batch", "bulk-extend")


def asked(world, name, text):
    """The address with the text for everything that can be asked there, sort and filter too."""
    path = world.url(name)
    return f"{path}{'&' if '?' in path else '?'}{urlencode(dict.fromkeys(ASKED, text))}"


@pytest.mark.parametrize("text", [NASTY[2], NASTY[5], NASTY[8]], ids=["tag", "quote", "address"])
def test_what_an_address_says_is_shown_as_text(world, text):
    browser = browser_of(world.people["ada"])
    for name in ASKS:
        answer = browser.get(asked(world, name, text))
        assert answer.status_code in (200, 400), name
        assert Page(answer.content.decode()).live == [], name
    page = Client().get(f"/accounts/login/?{urlencode({'next': text})}").content.decode()
    assert Page(page).live == []
