"""Where a second factor is required, who has none gets no further than to setting one up."""

import re
import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client
from django.urls import get_resolver

from portal.accounts.access import PUBLIC, TABLE, TO_A_SECOND_FACTOR
from portal.accounts.models import Identity
from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def required(settings):
    settings.REQUIRE_SECOND_FACTOR = True


@pytest.fixture
def half_in(olga):
    return signed_in(olga)


def signed_in(user):
    client = Client()
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    return client


def code_now(key):
    return format_hotp_value(hotp_value(key, int(time.time()) // 30))


def test_a_password_alone_leads_to_setting_one_up(half_in):
    page = half_in.get("/engines/", follow=True)
    assert page.redirect_chain == [("/accounts/second-factor/", 302)]
    assert "Add a passkey" in page.content.decode()


def address_of(name):
    """Return an address of that name, whatever is or is not there."""
    [(route, _)] = get_resolver().reverse_dict.getlist(name)[0][0]
    return "/" + re.sub(r"%\(\w+\)s", "1", re.sub(r"%\((pk|key)\)s", "00000000-0000-0000-0000-000000000000", route))


def test_nothing_else_opens(ada):
    half_in, opened = signed_in(ada), set()
    closed = {name for name, methods in TABLE.items() if PUBLIC not in methods.values()}
    for name in closed:
        for method in ("GET", "POST"):
            if half_in.generic(method, address_of(name)).get("Location") != "/accounts/second-factor/":
                opened.add(name)
    assert opened == TO_A_SECOND_FACTOR


def test_nor_do_the_pages_of_setting_one_up_show_anything_of_a_team(half_in):
    page = half_in.get("/accounts/app/add/").content.decode()
    assert "Acme" not in page
    assert "/audit/" not in page
    assert "data-live" not in page


def test_a_fragment_moves_the_whole_page_there(half_in):
    answer = half_in.get("/engines/", headers={"HX-Request": "true"})
    assert answer["HX-Redirect"] == "/accounts/second-factor/"


def test_who_has_set_up_an_app_goes_on_by_the_recovery_codes(half_in):
    key = half_in.get("/accounts/app/add/").context["form"].secret
    page = half_in.post("/accounts/app/add/", {"code": code_now(key)}, follow=True)
    assert re.search(r"\d{8}", page.content.decode())
    assert half_in.get("/engines/").status_code == 200
    assert half_in.get("/accounts/second-factor/")["Location"] == "/"


def test_it_is_asked_of_who_signed_in_long_ago_as_well(olga, confirmed):
    half_in = confirmed(olga, ago=700)
    assert half_in.get("/accounts/passkeys/add/")["Location"].startswith("/accounts/confirm/")
    half_in.post("/accounts/confirm/", {"password": PASSWORD})
    assert half_in.get("/accounts/passkeys/add/").status_code == 200


def test_recovery_codes_alone_are_none(olga):
    Authenticator.objects.create(user=olga, type="recovery_codes", data={"seed": "", "used_mask": 0})
    assert signed_in(olga).get("/engines/").status_code == 302


def test_single_sign_on_brings_its_own(olga, confirmed):
    half_in = confirmed(olga)
    session = half_in.session
    session["account_authentication_methods"] = [{"method": "sso", "at": time.time()}]
    session.save()
    assert half_in.get("/engines/").status_code == 200


def test_a_password_beside_a_linked_single_sign_on_is_still_a_password_alone(half_in, olga):
    Identity.objects.create(user=olga, issuer="https://id.example", subject="1")
    assert half_in.get("/engines/").status_code == 302


def test_signing_out_stays_possible(half_in):
    half_in.post("/accounts/logout/")
    assert half_in.get("/accounts/second-factor/")["Location"].startswith("/accounts/login/")
    assert Entry.objects.filter(action="session.ended").exists()


def test_where_it_is_not_required_a_password_opens_all(half_in, settings):
    settings.REQUIRE_SECOND_FACTOR = False
    assert half_in.get("/engines/").status_code == 200
