"""The Engines API is away: the pages answer, say so, and go on by themselves when it is back."""

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
    wait_for(lambda: "has failed since" in fleet(browser), 30, "banner about the API")


def test_a_drain_asked_meanwhile_is_sent_when_api_and_engine_are_back(stack):
    uid = stack.engine("patient", cpus=1)
    browser = stack.sign_in("admin@demo.example")
    stack.in_the_portal(uid)
    stack.kill("controlplane")
    operation = drain(browser, uid, "asked while the API was away")
    wait_for(lambda: "Nothing was sent" in browser.get(operation).text, 20, "word that it waits")
    stack.start("controlplane")
    wait_for(lambda: "Succeeded" in browser.get(operation).text, 90, "end of the drain")
    assert stack.ended("patient") == 0
    assert f"[{request_of(stack, operation)}] drain of {uid}: sending → accepted" in stack.log("worker")


def request_of(stack, operation):
    """The id of the request that an operation goes back to."""
    pk = operation.strip("/").rpartition("/")[2].replace("-", "")
    rows = dict(stack.query("SELECT CAST(id AS TEXT), request_id FROM engines_operation"))
    return {key.replace("-", ""): value for key, value in rows.items()}[pk]
