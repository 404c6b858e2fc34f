"""Signing in: by e-mail and password, audited, slowed down for guessers, and no way to sign oneself up."""

import pytest
import time_machine
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from portal.accounts import expired
from portal.accounts.models import Membership, User
from portal.accounts.roles import Role
from portal.audit.models import Entry
from portal.celery import app

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


def entries():
    return list(Entry.objects.order_by("number").values_list("action", "outcome"))


def test_sign_ins_and_sign_outs_are_audited(client, olga):
    sign_in(client, olga, "wrong wrong wrong")
    sign_in(client, olga)
    client.post("/accounts/logout/")
    assert entries() == [("session.refused", "refused"), ("session.started", "ok"), ("session.ended", "ok")]


def test_an_entry_names_who_from_where_and_the_request(client, olga):
    client.post(LOGIN, {"login": olga.email, "password": PASSWORD}, headers={"X-Request-ID": "req-7"})
    entry = Entry.objects.get()
    assert (entry.actor, entry.role, entry.address, entry.request_id) == (olga, "operator", "127.0.0.1", "req-7")


def test_each_team_of_a_person_hears_of_it(client, olga, other_team):
    Membership.objects.create(user=olga, team=other_team, role=Role.VIEWER)
    sign_in(client, olga)
    assert set(Entry.objects.values_list("team__slug", "role")) == {("acme", "operator"), ("mallory-inc", "viewer")}


def test_guesses_at_nobody_are_in_no_teams_log_and_in_the_portal_s(client, olga, caplog):
    client.post(LOGIN, {"login": "nobody@acme.example", "password": "wrong wrong wrong"})
    assert entries() == []
    assert "a sign-in of nobody here was refused, from 127.0.0.1" in caplog.text
    assert "nobody@" not in caplog.text


def test_a_person_who_was_switched_off_is_told_so(client, olga):
    User.objects.update(is_active=False)
    answer = client.post(LOGIN, {"login": olga.email, "password": PASSWORD}, follow=True)
    assert "switched of" in answer.content.decode()
    assert entries() == [("session.refused", "refused")]


def test_being_switched_off_ends_open_sessions(client, olga):
    sign_in(client, olga)
    User.objects.update(is_active=False)
    assert client.get("/engines/")["Location"].startswith(LOGIN)


def test_a_new_password_ends_open_sessions(client, olga):
    sign_in(client, olga)
    olga.set_password("another horse battery")
    olga.save()
    assert client.get("/engines/")["Location"].startswith(LOGIN)


def test_a_session_gets_a_new_name_at_sign_in(client, olga):
    client.get(LOGIN)
    session = client.session
    session["kept"] = True
    session.save()
    before = session.session_key
    sign_in(client, olga)
    assert client.session.session_key != before


def guess(client, olga, number, **headers):
    answer = client.post(LOGIN, {"login": olga.email, "password": f"guess number {number}"}, headers=headers)
    return "Too many" in answer.content.decode()


def test_a_guesser_is_slowed_down(client, olga):
    assert [guess(client, olga, number) for number in range(6)] == [False] * 5 + [True]


def test_even_the_right_password_waits_then(client, olga):
    for number in range(6):
        guess(client, olga, number)
    assert "Too many" in sign_in(client, olga).content.decode()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_a_forged_address_gives_no_new_tries(client, olga, header):
    guesses = [guess(client, olga, number, **{header: f"10.0.0.{number}"}) for number in range(12)]
    assert guesses[-1]
    assert set(Entry.objects.values_list("address", flat=True)) == {"127.0.0.1"}


def test_another_port_in_the_host_header_gives_no_new_tries(client, olga):
    guesses = [guess(client, olga, number, Host=f"localhost:{8000 + number}") for number in range(6)]
    assert guesses[-1]


ELSEWHERE = "198.51.100.7"


def test_a_stranger_s_guesses_from_elsewhere_lock_nobody_out(client, olga):
    for number in range(6):
        guess(Client(REMOTE_ADDR=ELSEWHERE), olga, number)
    assert sign_in(client, olga)["Location"] == "/engines/"


def test_a_stranger_s_guesses_from_the_same_address_leave_the_own_browser_open(client, olga):
    sign_in(client, olga)
    client.post("/accounts/logout/")
    for number in range(12):
        guess(Client(), olga, number)
    assert sign_in(client, olga)["Location"] == "/engines/"


def test_a_stranger_s_guesses_at_many_from_the_same_address_leave_it_open_too(client, olga):
    sign_in(client, olga)
    client.post("/accounts/logout/")
    for number in range(31):
        Client().post(LOGIN, {"login": f"u{number}@acme.example", "password": "x"})
    assert sign_in(client, olga)["Location"] == "/engines/"


def test_guesses_from_a_known_browser_are_slowed_down_too(client, olga):
    sign_in(client, olga)
    client.post("/accounts/logout/")
    assert [guess(client, olga, number) for number in range(6)] == [False] * 5 + [True]


def test_a_browser_is_known_for_the_person_who_signed_in_on_it_only(client, olga, victor):
    sign_in(client, victor)
    client.post("/accounts/logout/")
    for number in range(6):
        guess(Client(), olga, number)
    assert guess(client, olga, 7)


@pytest.mark.parametrize("forged", ["", "x", "eyJpZCI6IjEifQ:1:x"])
def test_a_forged_device_gets_no_tries_of_its_own(client, olga, forged):
    for number in range(6):
        guess(client, olga, number)
    client.cookies["device"] = forged
    assert guess(client, olga, 7)


def test_a_refused_sign_in_makes_no_browser_known(client, olga):
    guess(client, olga, 1)
    assert "device" not in client.cookies


def test_one_address_may_guess_at_ten_accounts_a_minute(client, db):
    guesses = [Client().post(LOGIN, {"login": f"u{one}@acme.example", "password": "x"}) for one in range(11)]
    assert ["Too many" in one.content.decode() for one in guesses] == [False] * 10 + [True]


def test_ten_thousand_guesses_cost_a_handful_of_looks_at_the_password(client, olga, monkeypatch):
    looks = []
    monkeypatch.setattr(User, "check_password", lambda *_: looks.append(1))
    for number in range(200):  # the rest is more of the same
        guess(client, olga, number)
    assert len(looks) == 5


def test_guessing_on_goes_on_at_fifty_a_day(client, olga, monkeypatch):
    looks = []
    monkeypatch.setattr(User, "check_password", lambda *_: looks.append(1))
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        for number in range(100):
            guess(client, olga, number)
            clock.shift(301)
    assert len(looks) == 50


def test_a_guesser_s_count_is_not_pushed_out_by_guesses_at_others(client, olga):
    for number in range(5):
        guess(client, olga, number)
    for number in range(400):
        cache.set(f"~of-another-{number}", [1], 3600)  # culling begins with the lowest
    assert guess(client, olga, 6)


def test_counts_and_sessions_that_are_over_are_deleted_and_others_stay(client, olga, victor):
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        sign_in(Client(), victor)
        guess(Client(REMOTE_ADDR=ELSEWHERE), olga, 1)
        clock.shift(24 * 3600 + 1)
        sign_in(client, olga)
        for number in range(5):
            guess(Client(), olga, number)
        before = rows_of_counts()
        expired.forget(timezone.now())
        assert rows_of_counts() == before - 8  # three of each account from each address, two of elsewhere itself
        here = [client.session.session_key]
        assert list(Session.objects.values_list("pk", flat=True)) == here
        assert list(UserSession.objects.values_list("session_key", flat=True)) == here
        assert guess(Client(), olga, 6)


def rows_of_counts():
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM cache")
        return cursor.fetchone()[0]


def test_beat_has_them_deleted():
    app.loader.import_default_modules()
    assert settings.CELERY_BEAT_SCHEDULE["expired"]["task"] in app.tasks


def test_guessers_are_slowed_down_without_the_broker_too(client, olga, settings):
    settings.REDIS_URL = settings.CELERY_BROKER_URL = "redis://127.0.0.1:1"
    assert [guess(client, olga, number) for number in range(6)] == [False] * 5 + [True]


@pytest.mark.parametrize("path", ["/accounts/signup/", "/accounts/password/reset/", "/accounts/email/"])
def test_what_is_not_offered_is_not_there(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "///evil.example",
        "https://evil.example/",
        "https:evil.example",
        "http://localhost/elsewhere/",
        "http://testserver:81/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "\r\nLocation: //evil.example",
    ],
)
def test_sign_in_leads_to_own_pages_only(client, olga, to):
    assert sign_in(client, olga, next=to)["Location"] == "/engines/"


def test_sign_in_leads_back_to_where_it_was_asked_for(client, olga):
    assert sign_in(client, olga, next="/audit/?q=drain")["Location"] == "/audit/?q=drain"


def test_signing_out_takes_a_form(client, olga):
    sign_in(client, olga)
    client.get("/accounts/logout/")
    assert client.get("/engines/").status_code == 200


def test_signing_out_ends_the_session(client, olga):
    sign_in(client, olga)
    client.post("/accounts/logout/")
    assert client.get("/engines/").status_code == 302
