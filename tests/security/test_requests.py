"""ASVS 3.5.1, 3.7.2, 4.1.3, 14.3.2: forged, redirected and misaddressed requests, at every address."""

import time
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.db import transaction
from django.test import Client

from portal.accounts.access import PUBLIC, TABLE
from portal.audit.models import Entry
from tests.security.test_every_address import everything
from tests.security.test_roles import browser_of
from tests.security.world import PASSWORD, TOTP_KEY

CHANGES_NOTHING = {"csp-report"}
POSTS = sorted(name for name, methods in TABLE.items() if "POST" in methods and name not in CHANGES_NOTHING)
HERE = ["/team/", "http://testserver/team/"]  # the one as a parameter, the other as a header
ELSEWHERE = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "https://evil.example/engines/",
    "http:///evil.example",
    "///evil.example",
    "/%2f%2fevil.example",
    "%2f%2fevil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/\tevil.example/",
    "/engines/\r\nSet-Cookie: a=b",
    "//evil.example@127.0.0.1",
    "https://127.0.0.1@evil.example",
    "//evil%E3%80%82example",
    "/.evil.example//",
    " //evil.example",
    "https://testserver.evil.example",
    "ftp://evil.example",
]


def stays_here(location):
    """Whether a browser on the sign-in page would stay on this site; it takes a backslash for a slash."""
    return urlsplit(urljoin("https://testserver/accounts/login/", location.replace("\\", "/"))).netloc == "testserver"


def test_without_its_token_nothing_is_changed(world):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.people["ada"])
    before = everything()
    found = {name: browser.post(world.url(name), world.form(name)).status_code for name in POSTS}
    assert {name: status for name, status in found.items() if status != 403} == {}
    assert everything() == before


@pytest.fixture
def ada(world):
    return world.people["ada"]


def enter(browser, user, target):
    return browser.post("/accounts/login/", {"login": user.email, "password": PASSWORD, "next": target})


def code():
    return format_hotp_value(hotp_value(TOTP_KEY, int(time.time()) // 30))


def by_signing_in(ada, target):
    Authenticator.objects.filter(user=ada).delete()
    return enter(Client(), ada, target)


def by_signing_in_with_a_second_factor(ada, target):
    browser = Client()
    enter(browser, ada, target)
    return browser.post(f"/accounts/login/factor/?{urlencode({'next': target})}", {"code": code(), "next": target})


def by_signing_in_again(ada, target):
    return browser_of(ada).get(f"/accounts/login/?{urlencode({'next': target})}")


def by_signing_out(ada, target):
    return browser_of(ada).post("/accounts/logout/", {"next": target})


def by_confirming_with_the_password(ada, target):
    return browser_of(ada).post("/accounts/confirm/", {"password": PASSWORD, "next": target})


def by_confirming_with_a_code(ada, target):
    return browser_of(ada).post("/accounts/confirm/code/", {"code": code(), "next": target})


def by_the_page_that_htmx_was_on(ada, target):
    back = Client().get("/engines/", headers={"HX-Request": "true", "HX-Current-URL": target})["HX-Redirect"]
    assert back.startswith("/accounts/login/")
    Authenticator.objects.filter(user=ada).delete()
    return enter(Client(), ada, parse_qs(urlsplit(back).query).get("next", [""])[0])


def by_the_page_that_a_form_was_on(ada, target):
    browser = Client()
    browser.force_login(ada)  # who has not confirmed it since
    answer = browser.post("/team/invite/", headers={"Referer": target.replace("\r\n", "")})
    back = parse_qs(urlsplit(answer.get("Location", "")).query).get("next", [""])[0]
    return browser.post("/accounts/confirm/", {"password": PASSWORD, "next": back})


WAYS = [
    by_signing_in,
    by_signing_in_with_a_second_factor,
    by_signing_in_again,
    by_signing_out,
    by_confirming_with_the_password,
    by_confirming_with_a_code,
    by_the_page_that_htmx_was_on,
    by_the_page_that_a_form_was_on,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_it_leads_nowhere_else(ada, way):
    led = {}
    for target in [*HERE, *ELSEWHERE]:
        with transaction.atomic():
            answer = way(ada, target)
            transaction.set_rollback(True)
        assert "a" not in answer.cookies
        led[target] = answer.get("Location", "/")
    assert {target: where for target, where in led.items() if not stays_here(where)} == {}
    assert "/team/" in {led[target] for target in HERE}, "it leads nowhere at all"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::1]:80@x"])
def test_a_host_that_is_not_ours_is_not_served(client_of, ada, settings, host):
    settings.ALLOWED_HOSTS = ["portal.example"]
    answer = client_of(ada).get("/engines/", headers={"Host": host})
    assert answer.status_code == 400
    assert host not in answer.content.decode()


CLAIMS = dict.fromkeys(
    ("X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL"), "evil.example"
)
CLAIMS |= {"Forwarded": "host=evil.example", "X-Forwarded-Port": "6666", "X-Forwarded-Prefix": "/evil.example"}


def test_no_page_says_what_a_caller_calls_the_host(world):
    browser = browser_of(world.people["ada"])
    answers = {name: browser.get(world.url(name), headers=CLAIMS) for name in TABLE if name != "live"}
    said = {name: f"{answer.headers}{answer.content.decode()}" for name, answer in answers.items()}
    assert [name for name, words in said.items() if "evil.example" in words or ":6666" in words] == []


@pytest.mark.parametrize("path", ["/team/logo.css", "/team/;logo.css", "/team/%2e%2e/static/portal.css", "/keys/a.js"])
def test_no_page_poses_as_a_file_that_caches_keep(world, path):
    answer = browser_of(world.people["ada"]).get(path)
    assert answer.status_code == 404
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_an_address_that_a_caller_claims_is_not_written_down(client_of, ada, header):
    value = "for=6.6.6.6" if header == "Forwarded" else "6.6.6.6"
    before = Entry.objects.count()
    by = {"login": ada.email, "password": PASSWORD}
    Client().post("/accounts/login/", by, headers={header: value})
    Client().post("/accounts/login/", by | {"password": "wrong"}, headers={header: value})
    assert Entry.objects.count() > before
    assert "6.6.6.6" not in str(list(Entry.objects.values()))


def test_a_made_up_method_is_refused(world):
    browser = browser_of(world.people["ada"])
    found = {name: browser.generic("TRACE", world.url(name)).status_code for name in TABLE}
    assert {name: status for name, status in found.items() if status not in (403, 405)} == {}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_fragment_is_a_sign_in_page_when_the_session_is_over(world, method):
    """Whatever address an open page asks for, the page as a whole goes to sign in, and then comes back."""
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/engines/?q=gpu"}
    found = {}
    for name, methods in TABLE.items():
        if methods.get(method, PUBLIC) != PUBLIC:
            answer = Client().generic(method, world.url(name), headers=headers)
            found[name] = (answer.status_code, answer.get("HX-Redirect"), answer.content)
    led = (401, "/accounts/login/?next=%2Fengines%2F%3Fq%3Dgpu", b"")
    assert {name: answer for name, answer in found.items() if answer != led} == {}
