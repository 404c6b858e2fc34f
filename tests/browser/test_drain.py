"""The whole way in Chromium: sign in, find the engine, drain it with a reason, watch it finish, read who did it."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

ADMIN = "admin@demo.example"
REASON = "Kernel patch, ticket OPS-123"
COMPLETED = 10
SECONDS = 40  # how long the task runs; the portal reads the fleet every 15


@pytest.fixture
def engine(stack):
    """An engine that the portal knows."""
    stack.in_the_portal(stack.engine("studio", cpus=2))
    yield "studio"
    stack.kill("studio")


def test_an_engine_is_drained_without_losing_its_task(visit, stack, engine):
    task = stack.run(on=engine, seconds=SECONDS)
    page = visit(ADMIN)
    open_engine(page)
    ask_for_a_drain(page)
    request_id = watch_it_finish(page, task)
    assert stack.ended(engine) == 0
    assert stack.task(task)["status"] == COMPLETED
    assert stack.task(task)["output"] == {"seconds": SECONDS}
    read_who_did_it(page, request_id)


def open_engine(page):
    page.get_by_role("link", name="studio", exact=True).click()
    expect(page.get_by_role("heading", name="studio")).to_be_visible()
    expect(page.locator("#engine")).to_contain_text("sleep", timeout=20_000)


def ask_for_a_drain(page):
    page.get_by_role("link", name="Drain…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("finished first")
    dialog.get_by_label("Why?").fill(REASON)
    dialog.get_by_role("button", name="Drain studio").click()
    page.wait_for_url(re.compile("/operations/"))


def watch_it_finish(page, task):
    """Without a reload: the page follows by itself. Return the request's id."""
    page.evaluate("window.same = true")
    operation = page.locator("#operation")
    expect(operation).to_contain_text("In progress", timeout=15_000)
    expect(operation).to_contain_text("1 of 2 workers idle")
    expect(operation).to_contain_text(task)
    expect(operation).to_contain_text("Succeeded", timeout=60_000)
    assert page.evaluate("window.same")
    return page.locator("#operation").get_by_text(re.compile("^[0-9a-f]{32}$")).first.inner_text()


def read_who_did_it(page, request_id):
    page.get_by_role("link", name="Audit log").click()
    wish = page.get_by_role("row").filter(has_text="asked to drain studio")
    expect(wish).to_contain_text(REASON)
    wish.get_by_role("link", name=re.compile("^#")).click()
    for words in ("Ada Admin", REASON, request_id, "studio"):
        expect(page.locator("main")).to_contain_text(words)
