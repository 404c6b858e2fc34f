"""Parts of a page that fetch themselves, in a browser, when answers are slow: the last word is the server's last."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import django_htmx
import pytest
from django.conf import settings
from django.http import QueryDict
from django.template.loader import render_to_string
from django.test import RequestFactory
from playwright.sync_api import Page, expect, sync_playwright

from engines.filters import FleetFilter
from engines.models import Engine
from tests.browser.chromium import find

pytestmark = pytest.mark.browser

HTMX = Path(django_htmx.__file__).parent / "static/django_htmx/htmx-2.min.js"
STATIC = Path(settings.BASE_DIR) / "static"
SCRIPTS = {"/htmx.js": HTMX, "/portal.js": STATIC / "portal.js", "/live.js": STATIC / "live.js"}
PART = """<div id="fleet" hx-get="{path}" hx-target="#fleet" hx-swap="outerHTML" hx-sync="this:queue last"
  hx-trigger="live-engines from:body delay:100ms, live-poll from:body">{text}
  <a href="?one"></a><a href="?two"></a></div>"""
SECONDS = 5.0


class Site:
    """One page with one part. A question for the part is held until the test answers it."""

    def __init__(self) -> None:
        self.text = "first"
        self.asked: list[tuple[str, str, threading.Event]] = []  # query, what the server knew then, answered
        self.hold = False
        self.address = ""

    def page(self) -> str:
        request = RequestFactory().get("/part")
        given = {"filter": FleetFilter(QueryDict(), queryset=Engine.objects.none()), "fragment": "fleet"}
        form = render_to_string("components/_filters.html", {**given, "request": request})
        scripts = "".join(f'<script src="{path}" defer></script>' for path in SCRIPTS)
        part = PART.format(path="/part", text=self.text)
        return f'<!doctype html><body data-live="/live/" data-now="">{form}{part}{scripts}'

    def part(self, path: str) -> str:
        query = parse_qs(urlsplit(path).query).get("q", [""])[0]
        text, answered = self.text, threading.Event()
        held, self.hold = self.hold, False
        self.asked.append((query, text, answered))
        if held:
            answered.wait(SECONDS)
        return PART.format(path=path, text=f"{text} {query}".strip())


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path in SCRIPTS:
                self.answer("text/javascript", SCRIPTS[path].read_bytes())
            elif path == "/part":
                self.answer("text/html", (site.part(self.path) if self.headers["HX-Request"] else site.page()).encode())
            else:
                self.send_error(404)

        def answer(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        page = browser.new_page()
        # The stream is played by the test: live.js takes what another tab would tell it.
        page.add_init_script("window.other = () => new BroadcastChannel('live /live/ undefined')")
        page.goto(f"{site.address}/part")
        yield page
        browser.close()


def tell(page: Page, *topics: str) -> None:
    page.evaluate("topics => window.other().postMessage({topics})", list(topics))


def asked(page: Page, site: Site, times: int) -> threading.Event:
    """Wait for so many questions; return what answers the last one."""
    for _ in range(int(SECONDS * 50)):
        if len(site.asked) >= times:
            return site.asked[times - 1][2]
        page.wait_for_timeout(20)
    raise AssertionError(f"asked {len(site.asked)} times only")


def test_what_changes_while_an_answer_is_on_its_way_is_not_missed(site: Site, page: Page) -> None:
    site.hold = True
    tell(page, "engines")
    answer = asked(page, site, 1)
    site.text = "second"
    tell(page, "engines")
    page.wait_for_timeout(50)  # the browser has heard it, and its delay has not passed
    answer.set()
    expect(page.locator("#fleet")).to_have_text("second")


def test_nothing_is_asked_twice_when_nothing_changed_meanwhile(site: Site, page: Page) -> None:
    tell(page, "engines")
    asked(page, site, 1)
    page.wait_for_timeout(300)
    assert len(site.asked) == 1


def test_the_focus_stays_where_it_was_when_the_part_is_replaced(site: Site, page: Page) -> None:
    page.locator("a[href='?two']").focus()
    site.text = "second"
    tell(page, "engines")
    expect(page.locator("#fleet")).to_have_text("second")
    expect(page.locator("a[href='?two']")).to_be_focused()


def test_a_filter_is_not_lost_when_the_part_is_being_fetched(site: Site, page: Page) -> None:
    site.hold = True
    tell(page, "engines")
    answer = asked(page, site, 1)
    site.hold = True
    page.locator("[name=q]").fill("gpu")
    filtered = asked(page, site, 2)
    answer.set()
    page.wait_for_timeout(100)  # the older answer is there
    filtered.set()
    expect(page.locator("#fleet")).to_have_text("first gpu")
    expect(page.locator("#fleet")).to_have_attribute("hx-get", "/part?q=gpu")
