"""Signing in: by e-mail and password, audited, slowed down for guessers, and no way to sign oneself up."""

import pytest

from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"
PASSWORD = "correct horse battery"


def sign_in(client, user, password=PASSWORD, **more):
    return client.post(LOGIN, {"login": user.email, "password": password, **more})


def test_the_right_password_leads_to_the_fleet(client, olga):
    assert sign_in(client, olga)["Location"] == "/engines/"


def test_the_address_is_not_case_sensitive(client, olga):
    answer = client.post(LOGIN, {"login": olga.email.upper(), "password": PASSWORD})
    assert answer.status_code == 302


def test_a_wrong_password_says_nothing_about_the_account(client, olga):
    known = sign_in(client, olga, "wrong wrong wrong").content.decode()
    unknown = client.post(LOGIN, {"login": "nobody@example.com", "password": "wrong wrong wrong"}).content.decode()
    words = "The email address and/or password you specified are not correct."
    assert words in known
    assert words in unknown


def test_sign_ins_are_audited(client, olga):
    sign_in(client, olga, "wrong wrong wrong")
    sign_in(client, olga)
    assert list(Entry.objects.order_by("number").values_list("action", "outcome")) == [
        ("session.refused", "refused"),
        ("session.started", "ok"),
    ]


def test_a_guesser_is_slowed_down(client, olga):
    answers = [sign_in(client, olga, f"guess number {number}").content.decode() for number in range(12)]
    assert "Too many" in answers[-1]


@pytest.mark.parametrize("path", ["/accounts/signup/", "/accounts/password/reset/", "/accounts/email/"])
def test_what_is_not_offered_is_not_there(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_sign_in_leads_to_own_pages_only(client, olga, to):
    assert sign_in(client, olga, next=to)["Location"] == "/engines/"


def test_signing_out_ends_the_session(client, olga):
    sign_in(client, olga)
    client.post("/accounts/logout/")
    assert client.get("/engines/").status_code == 302
