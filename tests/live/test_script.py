"""static/live.js in a browser, against a stream that the test speaks through."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import BrowserContext, Page, sync_playwright

from portal.live.stream import DOWN, UP
from tests.browser.chromium import find

pytestmark = pytest.mark.browser

SCRIPT = Path(settings.BASE_DIR) / "static" / "live.js"
PAGE = b"""<!doctype html><body data-live="/live/"><p>Content</p><span data-live-state>connecting</span>
<script src="/live.js"></script>"""
# The events do not bubble, and come from the first moment on: overheard where they are dispatched.
OVERHEAR = """
window.heard = [];
const dispatch = EventTarget.prototype.dispatchEvent;
EventTarget.prototype.dispatchEvent = function (event) {
  if (event instanceof CustomEvent) window.heard.push(event.type);
  return dispatch.call(this, event);
};
"""

SHOW = """hidden => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Site:
    """Serves the page and the script; `say` writes to every open stream."""

    def __init__(self) -> None:
        self.streams: list[queue.Queue[bytes]] = []
        self.address = ""
        self.asked = 0
        self.first_word = UP
        self.status = 200
        self.page = PAGE

    def say(self, frame: bytes) -> None:
        for stream in self.streams:
            stream.put(frame)

    def hang_up(self) -> None:
        self.say(b"")


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/":
                    self.answer("text/html", site.page)
                case "/live.js":
                    self.answer("text/javascript", SCRIPT.read_bytes())
                case "/live/":
                    site.asked += 1
                    self.stream() if site.status == 200 else self.send_error(site.status)
                case _:
                    self.send_error(404)

        def answer(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self) -> None:
            frames: queue.Queue[bytes] = queue.Queue()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"retry: 50\n\n" + site.first_word)
            site.streams.append(frames)
            with contextlib.suppress(OSError):
                while frame := frames.get():
                    self.wfile.write(frame)
            site.streams.remove(frames)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
    site.address = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield site
    site.hang_up()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def person(chromium: Any) -> Iterator[BrowserContext]:
    """One browser profile: its pages share streams."""
    context = chromium.new_context()
    context.add_init_script(OVERHEAR)
    yield context
    context.close()


Open = Callable[..., Page]


@pytest.fixture
def visit(person: BrowserContext, site: Site) -> Open:
    def visit(state: str = "live") -> Page:
        page = person.new_page()
        page.clock.install()
        page.goto(site.address)
        if state:
            page.wait_for_selector(f"body[data-live-state={state}]")
        return page

    return visit


def heard(page: Page, name: str) -> int:
    return page.evaluate("name => window.heard.filter(type => type === name).length", name)


def wait_for(page: Page, name: str, times: int = 1) -> None:
    page.wait_for_function("([name, times]) => window.heard.filter(t => t === name).length >= times", arg=[name, times])


def topics(*names: str) -> bytes:
    return b'data: {"topics": [%s]}\n\n' % ", ".join(f'"{name}"' for name in names).encode()


def test_a_topic_becomes_an_event_on_the_body(site: Site, visit: Open) -> None:
    page = visit()
    site.say(topics("engines", "engine:eng_1"))
    wait_for(page, "live-engine-eng_1")
    assert heard(page, "live-engines") == 1


def test_the_page_says_that_it_is_live_and_keeps_its_content(visit: Open) -> None:
    page = visit()
    assert page.text_content("[data-live-state]:not(body)") == "live"
    assert page.text_content("p") == "Content"


def test_what_changed_before_the_stream_began_is_looked_up_once(visit: Open) -> None:
    page = visit()
    page.clock.run_for(25_000)
    assert heard(page, "live-poll") == 1


def test_without_a_broker_the_page_polls_every_ten_seconds(site: Site, visit: Open) -> None:
    site.first_word = DOWN
    page = visit("polling")
    page.clock.run_for(30_000)
    assert heard(page, "live-poll") == 3
    assert page.text_content("[data-live-state]:not(body)") == "polling"


def test_a_stream_that_says_again_that_it_is_live_has_nothing_looked_up(site: Site, visit: Open) -> None:
    page = visit()
    wait_for(page, "live-poll")
    site.say(UP + topics("engines"))
    wait_for(page, "live-engines")
    assert heard(page, "live-poll") == 1


def test_when_the_broker_is_back_the_page_looks_once_more(site: Site, visit: Open) -> None:
    site.first_word = DOWN
    page = visit("polling")
    site.say(UP)
    page.wait_for_selector("body[data-live-state=live]")
    assert heard(page, "live-poll") == 1


def test_a_server_that_hangs_up_is_called_again(site: Site, visit: Open) -> None:
    page = visit()
    site.hang_up()
    wait_for(page, "live-poll", times=2)
    site.say(topics("engines"))
    wait_for(page, "live-engines")


def test_signed_out_the_page_polls_and_asks_again_later(site: Site, visit: Open) -> None:
    site.status = 401
    page = visit("polling")
    site.status = 200
    page.clock.run_for(3_000)
    page.wait_for_selector("body[data-live-state=live]")


def test_a_line_that_is_silent_for_long_is_replaced(site: Site, visit: Open) -> None:
    page = visit()
    page.clock.run_for(50_000)
    page.wait_for_selector("body[data-live-state=live]")
    assert site.asked == 2


def test_two_tabs_share_one_stream(site: Site, visit: Open) -> None:
    pages = [visit(), visit()]
    site.say(topics("engines"))
    for page in pages:
        wait_for(page, "live-engines")
    assert site.asked == 1


def test_a_tab_of_another_team_has_a_stream_of_its_own(site: Site, visit: Open) -> None:
    site.page = PAGE.replace(b"<body", b'<body data-team="acme"')
    visit()
    site.page = PAGE.replace(b"<body", b'<body data-team="other"')
    visit()
    assert site.asked == 2


def test_when_the_tab_with_the_stream_is_closed_the_other_opens_one(site: Site, visit: Open) -> None:
    first, second = visit(), visit()
    wait_for(second, "live-poll")
    first.close()
    wait_for(second, "live-poll", times=2)  # what changed between the two streams is looked up
    site.say(topics("engines"))
    wait_for(second, "live-engines")


def test_a_tab_that_comes_back_after_long_looks_everything_up(visit: Open) -> None:
    page = visit()
    page.evaluate(SHOW, True)
    page.clock.run_for(31_000)
    page.evaluate(SHOW, False)
    assert heard(page, "live-poll") == 2


def test_a_page_that_names_no_stream_asks_for_none(site: Site, visit: Open) -> None:
    site.page = PAGE.replace(b' data-live="/live/"', b"")
    page = visit("")
    page.clock.run_for(30_000)
    assert (site.asked, heard(page, "live-poll")) == (0, 0)
