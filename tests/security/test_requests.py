"""ASVS 3.5.1, 3.7.2, 5.2 of the checklist: forged, redirected and misaddressed requests."""

from urllib.parse import urljoin, urlsplit

import pytest
from django.test import Client

from portal.accounts.access import TABLE
from tests.accounts.test_access import url_of

CHANGES_NOTHING = {"csp-report"}
POSTS = sorted(name for name, methods in TABLE.items() if "POST" in methods and name not in CHANGES_NOTHING)
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


@pytest.mark.parametrize("name", POSTS)
def test_without_its_token_nothing_is_changed(ada, name):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada)
    assert browser.post(url_of(name)).status_code == 403


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_in_leads_nowhere_else(client, ada, target):
    answer = client.post("/accounts/login/", {"login": ada.email, "password": "correct horse battery", "next": target})
    where = answer.get("Location", "/")
    assert answer.status_code in (200, 302)
    assert stays_here(where)
    assert "Set-Cookie: a=b" not in str(answer.headers.get("Location", ""))
    assert "a" not in answer.cookies


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_out_leads_nowhere_else(client_of, ada, target):
    answer = client_of(ada).post("/accounts/logout/", {"next": target})
    assert stays_here(answer.get("Location", "/"))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::1]:80@x"])
def test_a_host_that_is_not_ours_is_not_served(client_of, ada, settings, host):
    settings.ALLOWED_HOSTS = ["portal.example"]
    answer = client_of(ada).get("/engines/", headers={"Host": host})
    assert answer.status_code == 400
    assert host not in answer.content.decode()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_an_address_that_a_caller_claims_is_not_written_down(client_of, ada, header):
    from portal.audit.models import Entry

    client = Client()
    value = "for=6.6.6.6" if header == "Forwarded" else "6.6.6.6"
    client.post("/accounts/login/", {"login": ada.email, "password": "correct horse battery"}, headers={header: value})
    assert Entry.objects.count() > 0
    assert "6.6.6.6" not in str(list(Entry.objects.values()))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_made_up_method_is_refused(client_of, ada, name):
    if name == "live":
        return
    assert client_of(ada).generic("TRACE", url_of(name)).status_code in (403, 405)
