"""The content policy, enforced, on every page: browsers report nothing, and would if there were something to report."""

import re
import uuid

import httpx
import pytest

from portal.accounts.access import TABLE
from tests.harness import drain
from tests.security.world import patterns

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ADMIN = "admin@demo.example"
NO_PAGE = {"live", "healthz", "readyz", "metrics", "account_logout", "cloud-time-csv"}
# Pages about what is not here: a second factor, a batch, a new engine, an invitation.
NOT_MADE = {"passkey-remove", "mfa_deactivate_totp", "mfa_view_recovery_codes", "batch", "engine-new-waiting", "join"}


@pytest.fixture
def addresses(stack):
    """Every page's address, those with ids with the ids of rows that are there."""
    uid = stack.engine("polite", cpus=1)
    stack.in_the_portal(uid)
    operation = drain(stack.sign_in(ADMIN), uid, "a page to look at").strip("/").rpartition("/")[2]
    hers = f"JOIN accounts_user ON accounts_user.id = user_id WHERE email = '{ADMIN}'"
    ids = {"uid": uid, "pk": operation, "number": 1, "key": uuid.UUID(str(first(stack, "vault_storedkey", hers)))}
    ids |= {"member": first(stack, "accounts_membership"), "connection": first(stack, "vault_connection")}
    pages = {entry.name: str(entry.pattern) for entry in patterns() if "GET" in TABLE[entry.name]}
    yield ["/" + filled(route, ids) for name, route in pages.items() if name not in NO_PAGE | NOT_MADE]
    stack.kill("polite")


def first(stack, table, where=""):
    return stack.query(f"SELECT {table}.id FROM {table} {where} ORDER BY {table}.id LIMIT 1")[0][0]


def filled(route, ids):
    """The route with its parts in angle brackets replaced. Raises KeyError for one that this test has no id for."""
    return re.sub(r"<\w+:(\w+)>", lambda part: str(ids[part[1]]), route)


def reports(stack):
    found = re.search(r"^portal_csp_reports_total (\S+)", httpx.get(f"{stack.place.portal_url}/metrics").text, re.M)
    return float(found[1])


def test_no_page_breaks_the_policy(visit, stack, addresses):
    page = visit(ADMIN)
    before = reports(stack)
    missing = [address for address in addresses if page.goto(address).status >= 400]
    assert missing == []
    assert reports(stack) == before


def test_what_breaks_it_is_reported(chromium, stack):
    page = chromium.new_context(base_url=stack.place.portal_url).new_page()
    page.goto("/accounts/login/")
    before = reports(stack)
    with page.expect_request(lambda request: request.url.endswith("/csp-report")) as sent:
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.x = 1'}))"
        )
    assert sent.value.response().status == 204
    assert page.evaluate("window.x") is None
    assert reports(stack) == before + 1
    page.context.close()
