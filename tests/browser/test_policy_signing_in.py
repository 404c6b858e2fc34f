"""Every way in, and of confirming that it is oneself, in Chromium with the content policy enforced; as test_policy.py.

The single sign-on provider is a site of its own, as the portal's users have one.
"""

import pytest
from django.test import Client

from tests.browser.conftest import elsewhere
from tests.browser.visitor import asked, visiting
from tests.security.world import PASSWORD, TOTP_KEY

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIGNING_IN = asked(
    *("join", "account_login", "mfa_authenticate", "sso", "sso-callback", "sso-link", "sso-confirm"),
    *("account_reauthenticate", "mfa_reauthenticate", "confirmed", "second-factor", "engine-create"),
)
GUARDED = "/accounts/app/add/"  # wants a recent proof
OLD = 601  # seconds


@pytest.fixture
def visitor(world, live_server):
    with visiting(live_server.url) as visitor:
        yield visitor


def test_no_way_in_breaks_the_policy(world, visitor, provider, settings, confirmed):
    join(world, visitor)
    see_that_a_password_is_not_enough(visitor, settings)
    confirm_by_password(visitor)
    link(visitor)
    sign_in_by_the_provider(visitor)
    confirm_by_the_provider(visitor)
    join_with_an_account(world, visitor)
    visitor.become(elsewhere(lambda: confirmed(world.people["ada"], ago=OLD)))
    order_a_machine(visitor)
    assert visitor.objections() == []
    assert visitor.not_done(SIGNING_IN) == {}


def join(world, visitor):
    link = elsewhere(lambda: world.url("join"))
    visitor.send(link, "", name="Nina", password1=PASSWORD, password2=PASSWORD)
    visitor.page.wait_for_url("**/accounts/login/")
    enter_password(visitor, "new@acme.example")
    visitor.page.wait_for_url("**/engines/")


def enter_password(visitor, email):
    visitor.fill(visitor.form("/accounts/login/"), login=email, password=PASSWORD)


def see_that_a_password_is_not_enough(visitor, settings):
    settings.REQUIRE_SECOND_FACTOR = True
    visitor.page.goto("/engines/")
    visitor.page.wait_for_url("**/accounts/second-factor/")
    settings.REQUIRE_SECOND_FACTOR = False


def be_asked_again(visitor):
    """Let the last proof be too old, and ask for what wants a recent one."""
    [key] = [each["value"] for each in visitor.context.cookies() if each["name"] == "sessionid"]
    elsewhere(lambda: grow_old(key))
    visitor.page.goto(GUARDED)
    visitor.page.wait_for_url("**/accounts/confirm/**")


def grow_old(key):
    browser = Client()
    browser.cookies["sessionid"] = key
    session = browser.session
    for record in session["account_authentication_methods"]:
        record.update({each: record[each] - OLD for each in ("at", "proved_at") if each in record})
    session.save()


def confirm_by_password(visitor):
    be_asked_again(visitor)
    visitor.fill(visitor.form("/accounts/confirm/"), password=PASSWORD)
    visitor.page.wait_for_url(f"**{GUARDED}")


def link(visitor):
    visitor.send("/accounts/", "/accounts/sso/link/")
    visitor.page.wait_for_url("**/accounts/")


def sign_in_by_the_provider(visitor):
    visitor.send("/accounts/logout/", "/accounts/logout/")
    visitor.send("/accounts/login/?next=/operations/", "/accounts/login/sso/")
    visitor.page.wait_for_url("**/operations/")


def confirm_by_the_provider(visitor):
    be_asked_again(visitor)
    visitor.page.get_by_role("link", name="Sign in again with Acme ID").click()
    visitor.fill(visitor.form("/accounts/confirm/sso/"))
    visitor.page.wait_for_url(f"**{GUARDED}")


def join_with_an_account(world, visitor):
    """Sign in on the way, with a second factor."""
    visitor.send("/accounts/logout/", "/accounts/logout/")
    olga, link = world.people["olga"], elsewhere(lambda: invite_olga(world))
    visitor.page.goto(link)
    visitor.page.get_by_role("link", name="Sign in").click()
    enter_password(visitor, olga.email)
    visitor.page.wait_for_url("**/accounts/login/factor/")
    enter_code(visitor, visitor.page)
    visitor.page.wait_for_url(f"**{link}")
    visitor.fill(visitor.form(""))
    visitor.page.wait_for_url("**/engines/")


def invite_olga(world):
    """Who is not in the team any more."""
    olga = world.people["olga"]
    olga.memberships.all().delete()
    world.invitation.pk, world.invitation.email, world.invitation.nonce = None, olga.email, "once more"
    world.invitation.save()
    return world.url("join")


def enter_code(visitor, page):
    visitor.fill(page.locator("form", has=page.locator("[name=code]")), code=visitor.code(TOTP_KEY))


def order_a_machine(visitor):
    page = visitor.page
    page.goto("/engines/new/cloud/")
    page.get_by_role("link", name="Choose").first.click()
    page.get_by_label("Name").fill("burst")
    page.get_by_role("button", name="Show the cost").click()
    with visitor.context.expect_page() as opened:
        page.get_by_role("link", name="Confirm in a new tab").click()
    confirm_by_code(visitor, opened.value)
    visitor.fill(visitor.form("/engines/new/cloud/order/"), reason="More room")
    page.wait_for_url("**/operations/*/")


def confirm_by_code(visitor, tab):
    tab.get_by_role("link", name="authenticator").click()
    enter_code(visitor, tab)
    tab.wait_for_url("**/accounts/confirm/done/")
    tab.close()
