"""The Engines API is away: the pages answer, say so, and go on by themselves when it is back."""

import uuid

import pytest

from tests.harness import drain, wait_for

pytestmark = pytest.mark.processes

PAGES = ("/engines/", "/operations/", "/audit/", "/keys/", "/team/")


@pytest.fixture
def without_api(stack):
    stack.kill("controlplane")
    yield stack
    stack.start("controlplane")


def fleet(browser):
    return browser.get("/engines/").raise_for_status().text


def test_pages_answer_when_it_was_never_there(without_api):
    without_api.kill("portal")
    without_api.start("portal")
    browser = without_api.sign_in("admin@demo.example")
    assert {page: browser.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)


def test_the_fleet_says_that_it_cannot_be_read(without_api):
    browser = without_api.sign_in("admin@demo.example")
    wait_for(lambda: "has not answered since" in fleet(browser), 30, "banner about the API")


def test_a_drain_asked_meanwhile_waits_and_then_ends_as_the_page_says(stack):
    uid = stack.engine("patient", cpus=1)
    browser = stack.sign_in("admin@demo.example")
    stack.in_the_portal(uid)
    stack.kill("controlplane")
    operation = drain(browser, uid, "asked while the API was away")
    wait_for(lambda: "Nothing was sent; trying again." in browser.get(operation).text, 20, "word that it waits")
    stack.start("controlplane")
    # Whether the API or its engine is back first is a race: a drain that finds the engine away is refused.
    if wait_for(lambda: ended(stack, operation), 60, "end of the operation") == "succeeded":
        assert stack.ended("patient") == 0
    else:
        assert stack.child("patient").running


def ended(stack, operation):
    """The operation's final state, or None."""
    rows = stack.query("SELECT id, state FROM engines_operation WHERE finished_at IS NOT NULL")
    return {uuid.UUID(str(row[0])): row[1] for row in rows}.get(uuid.UUID(operation.split("/")[2]))
