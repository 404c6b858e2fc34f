"""Passkeys in Chromium, whose virtual authenticator stands for the device: added, used for all three, removed.

The portal is served by this process: what it needs besides is Chromium alone.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from portal.audit.models import Entry
from tests.browser.conftest import elsewhere
from tests.browser.visitor import Visitor, asked, visiting

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "correct horse battery"
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


# What only a device can do. test_policy.py asks for the rest.
PASSKEYS = asked("passkey-add", "mfa_login_webauthn", "mfa_reauthenticate_webauthn")


@pytest.fixture
def visitor(olga: Any, live_server: Any) -> Iterator[Visitor]:
    """A browser on a device that makes passkeys. Fails at the end if console or content policy have complained."""
    # WebAuthn has no addresses: the portal must have a name.
    with visiting(f"http://localhost:{live_server.thread.port}") as visitor:
        yield visitor
        assert visitor.objections() == []


@pytest.fixture
def phone(visitor: Visitor) -> Page:
    page = visitor.page
    devices = visitor.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    page.device = devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})["authenticatorId"]  # type: ignore[attr-defined]
    page.devices = devices  # type: ignore[attr-defined]
    return page


def sign_in(page: Page) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill("olga@acme.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def press(page: Page, name: str) -> None:
    """Press a button that only a script makes do something, once the script has run."""
    button = page.get_by_role("button", name=name)
    expect(button).to_be_visible()
    page.wait_for_load_state()
    button.click()


def sign_out(page: Page) -> None:
    page.goto("/accounts/logout/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")


def add(page: Page) -> None:
    sign_in(page)
    page.wait_for_url("**/engines/")
    page.goto("/accounts/passkeys/add/")
    page.get_by_label("Name").fill("Olga's laptop")
    press(page, "Add the passkey")
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()


def test_a_passkey_signs_in_alone_as_second_factor_and_confirms_if_the_device_knows_its_person(
    visitor: Visitor, phone: Page
) -> None:
    add(phone)
    sign_out(phone)

    press(phone, "Sign in with a passkey")
    phone.wait_for_url("**/engines/")
    sign_out(phone)

    sign_in(phone)
    press(phone, "Use a passkey")
    phone.wait_for_url("**/engines/")

    phone.goto("/accounts/confirm/passkey/?next=/team/")
    press(phone, "Use a passkey")
    expect(phone.get_by_role("heading", name="Acme", exact=True)).to_be_visible()  # its address was in the last one

    sign_out(phone)
    unsure = {"authenticatorId": phone.device, "isUserVerified": False}  # type: ignore[attr-defined]
    phone.devices.send("WebAuthn.setUserVerified", unsure)  # type: ignore[attr-defined]
    press(phone, "Sign in with a passkey")
    expect(phone.get_by_role("alert")).to_contain_text("Nothing was confirmed")

    said = elsewhere(lambda: list(Entry.objects.filter(action="factor.used").values_list("reason", flat=True)))
    assert said == ["passkey “Olga's laptop”"] * 3
    assert visitor.not_done(PASSKEYS) == {}


def test_a_removed_passkey_signs_nobody_in(phone: Page) -> None:
    add(phone)
    phone.goto("/accounts/")
    phone.get_by_role("link", name="Remove Olga's laptop").click()
    phone.get_by_role("button", name="Remove Olga's laptop").click()
    phone.wait_for_url("**/accounts/")
    sign_out(phone)
    press(phone, "Sign in with a passkey")
    expect(phone.get_by_text("Incorrect code")).to_be_visible()
