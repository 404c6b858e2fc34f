"""ASVS 8.2.1 as people meet it: no page leads to what its reader may not do; what is disabled says why."""

from collections import defaultdict
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from django.urls import Resolver404, resolve

from portal.accounts.access import TABLE, may
from tests.security.test_roles import ask, browser_of
from tests.security.world import CAST

ASKS = {"href": "GET", "hx-get": "GET", "hx-post": "POST"}
NO_PAGES = {"live", "healthz", "readyz", "metrics", "cloud-time-csv"}


class Controls(HTMLParser):
    """What can be followed or sent on the page, and what is disabled on it."""

    def __init__(self, html):
        super().__init__()
        self.found, self.off, self._ids, self._form = set(), [], set(), None
        self.feed(html)

    @property
    def silent(self):
        return [button for reason, button in self.off if reason not in self._ids]

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        is_off = "disabled" in given or given.get("aria-disabled") == "true"
        self._ids.add(given.get("id", ""))
        if tag == "form":
            self._form = (given.get("method", "get").upper(), given.get("action", ""))
        if is_off and tag in ("button", "a"):
            self.off.append((given.get("aria-describedby"), self.get_starttag_text()))
            return
        if tag == "button" and self._form and given.get("type", "submit") == "submit":
            method, action = self._form
            self.found.add((given.get("formmethod", method).upper(), given.get("formaction", action)))
        self.found |= {(method, given[name]) for name, method in ASKS.items() if given.get(name)}

    def handle_endtag(self, tag):
        if tag == "form":
            self._form = None


def cell_of(address, page):
    """The name of the address that the page's own address leads to; None if that is none of ours."""
    parts = urlsplit(urljoin(f"http://testserver{page}", address))
    if parts.netloc != "testserver" or parts.path.startswith("/static/") or not parts.path:
        return None
    try:
        return resolve(parts.path).url_name
    except Resolver404:
        return f"nowhere: {parts.path}"


@pytest.fixture(params=CAST)
def person(request):
    return request.param


@pytest.fixture
def pages(world, person):
    """Every page that this person gets to see, as what can be done there."""
    browser = browser_of(world.people[person])
    seen = {}
    for name in [name for name in TABLE if name not in NO_PAGES and may(CAST[person], name, "GET")]:
        answer = ask(browser, world, name, "GET", person)
        if answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
            seen[world.url(name, person)] = Controls(answer.content.decode())
    return seen


def test_no_page_leads_to_what_its_reader_may_not_do(pages, person):
    dead = defaultdict(set)
    for page, controls in pages.items():
        for method, address in controls.found:
            name = cell_of(address, page)
            if name and not may(CAST[person], name, method):
                dead[page].add((method, name))
    assert len(pages) > 20
    assert dead == {}


def test_what_cannot_be_done_says_why(pages, person):
    assert any(controls.off for controls in pages.values()) or person == "ada"
    assert {page: controls.silent for page, controls in pages.items() if controls.silent} == {}


def test_a_dead_end_would_be_found(world):
    page = Controls('<a href="/audit/">Log</a><form method="post" action="/team/invite/"><button>Go</button></form>')
    cells = {(method, cell_of(address, "/engines/")) for method, address in page.found}
    assert cells == {("GET", "audit"), ("POST", "invite")}
    assert [cell for cell in cells if may(CAST["victor"], cell[1], cell[0])] == []
    assert Controls("<button disabled>Stop</button>").silent
