"""What was refused is in the audit log too: guesses that wait, roles that do not reach, proofs that prove nothing."""

import json

import pytest
import time_machine
from allauth.mfa.webauthn.internal import auth as webauthn
from django.test import Client
from django.utils import timezone
from fido2.utils import websafe_encode

from engines.models import Batch
from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
ELSEWHERE = "198.51.100.7"


def said(*actions):
    entries = Entry.objects.filter(action__in=actions).order_by("number")
    return list(entries.values_list("action", "outcome", "reason"))


def guess(user, times, **where):
    for number in range(times):
        Client(**where).post("/accounts/login/", {"login": user.email, "password": f"guess number {number}"})


def waits(address):
    return Entry.objects.filter(reason__startswith="too many tries", address=address).count()


def test_that_tries_begin_to_wait_is_recorded_once(olga):
    guess(olga, 9)
    assert (Entry.objects.count(), waits("127.0.0.1")) == (6, 1)


def test_and_once_more_from_another_address_or_after_a_while(olga):
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        guess(olga, 7)
        guess(olga, 7, REMOTE_ADDR=ELSEWHERE)
        clock.shift(301)
        guess(olga, 7)
    assert (waits("127.0.0.1"), waits(ELSEWHERE)) == (2, 1)


def test_so_is_that_an_address_which_tried_many_accounts_waits(olga, db):
    for number in range(10):
        Client().post("/accounts/login/", {"login": f"u{number}@acme.example", "password": "x"})
    guess(olga, 2)
    assert (Entry.objects.count(), waits("127.0.0.1")) == (1, 1)


def test_a_role_that_does_not_reach_is_recorded_with_what_it_was_for(client_of, victor, acme):
    client_of(victor).post("/engines/eng_1/drain/", headers={"X-Request-ID": "req-7"})
    entry = Entry.objects.get(action="access.refused")
    assert (entry.actor, entry.team, entry.role, entry.outcome) == (victor, acme, "viewer", "refused")
    assert (entry.reason, entry.request_id) == ("POST /engines/eng_1/drain/", "req-7")


def test_once_a_minute_for_each_thing(client_of, victor):
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        for path in ("/engines/eng_1/drain/", "/engines/eng_2/drain/", "/engines/eng_1/stop/"):
            client_of(victor).post(path)
        clock.shift(61)
        client_of(victor).post("/engines/eng_1/drain/")
    assert [reason for _, _, reason in said("access.refused")] == [
        "POST /engines/eng_1/drain/",
        "POST /engines/eng_1/stop/",
        "POST /engines/eng_1/drain/",
    ]


def test_looking_where_one_may_not_changes_nothing(client_of, victor):
    assert client_of(victor).get("/audit/").status_code == 403
    assert said("access.refused") == []


def test_what_a_page_refuses_beyond_the_table_is_recorded_too(client_of, bill, acme):
    batch = Batch.objects.create(team=acme, verb="drain", requested_at=timezone.now())
    assert client_of(bill).post(f"/batches/{batch.pk}/stop/").status_code == 403
    assert said("access.refused") == [("access.refused", "refused", f"POST /batches/{batch.pk}/stop/")]


def test_a_password_confirms_who_one_is_and_a_wrong_one_does_not(confirmed, olga):
    browser = confirmed(olga, ago=700)
    browser.post("/accounts/confirm/", {"password": "wrong wrong wrong"})
    browser.post("/accounts/confirm/", {"password": PASSWORD})
    assert said("session.doubted", "session.confirmed") == [
        ("session.doubted", "refused", "the password was wrong"),
        ("session.confirmed", "ok", "by the password"),
    ]


def test_signing_in_is_no_confirmation(olga):
    Client().post("/accounts/login/", {"login": olga.email, "password": PASSWORD})
    assert said("session.confirmed") == []


def test_a_wrong_old_password_at_the_change_is_recorded(client_of, olga):
    new = "seventeen purple kettles"
    form = {"oldpassword": "wrong wrong wrong", "password1": new, "password2": new}
    client_of(olga).post("/accounts/password/", form)
    assert said("session.doubted") == [("session.doubted", "refused", "the password to be changed was wrong")]


def passkey_of(user):
    """What a browser sends for a passkey of that person, signed by nobody."""
    handle = websafe_encode(webauthn.build_user_payload(user).id)
    response = {"clientDataJSON": websafe_encode(b"{}"), "authenticatorData": websafe_encode(b"\0" * 37)}
    response |= {"signature": websafe_encode(b"x"), "userHandle": handle}
    return json.dumps({"id": "eA", "rawId": "eA", "type": "public-key", "response": response})


def test_a_refused_passkey_is_recorded_once_a_minute(olga):
    for _ in range(3):
        Client().post("/accounts/login/passkey/", {"credential": passkey_of(olga)})
    assert said("session.refused") == [("session.refused", "refused", "the passkey was not accepted")]


@pytest.mark.parametrize("sent", ["", "x", "{}", "[]", '{"response": {"userHandle": "eA"}}'])
def test_one_that_names_nobody_is_in_no_log(olga, sent):
    Client().post("/accounts/login/passkey/", {"credential": sent})
    assert not Entry.objects.exists()
