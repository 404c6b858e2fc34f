"""Second factors: codes, recovery codes, what they are worth, and what the log and other sessions hear of them."""

import re
import threading
from urllib.parse import quote

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
START = 1_900_000_000 - 1_900_000_000 % 30  # the beginning of a period


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def sign_in(user, client=None):
    client = client or Client()
    return client, client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})


def code_for(key, moment=START):
    return format_hotp_value(hotp_value(key, moment // 30))


@pytest.fixture
def app(olga):
    """Sets up the app for Olga in the browser; returns browser, key and recovery codes."""
    client, _ = sign_in(olga)
    key = client.get("/accounts/app/add/").context["form"].secret
    page = client.post("/accounts/app/add/", {"code": code_for(key)}, follow=True).content.decode()
    return client, key, re.findall(r"^(?:.*>)?(\d{8})$", page, re.MULTILINE)


def is_in(client):
    return client.get("/engines/").status_code == 200


def enter(client, code):
    return client.post("/accounts/login/factor/", {"code": code})


def half_in(user):
    client, answer = sign_in(user)
    assert answer["Location"] == "/accounts/login/factor/"
    return client


def test_the_picture_is_an_image_in_the_page(olga):
    client, _ = sign_in(olga)
    page = client.get("/accounts/app/add/").content.decode()
    assert 'src="data:image/svg+xml;base64,' in page


def test_after_the_password_comes_the_code(app, olga, clock):
    _, key, _ = app
    clock.shift(60)
    client = half_in(olga)
    assert not is_in(client)
    enter(client, code_for(key, START + 60))
    assert is_in(client)


def test_a_wrong_code_lets_nobody_in(app, olga):
    client = half_in(olga)
    answer = enter(client, "000000")
    assert "Incorrect code" in answer.content.decode()
    assert not is_in(client)


@pytest.mark.parametrize(("late", "counts"), [(30, True), (60, False), (-30, True), (-60, False)])
def test_a_clock_may_be_off_by_one_period(app, olga, clock, late, counts):
    _, key, _ = app
    clock.shift(600)
    client = half_in(olga)
    enter(client, code_for(key, START + 600 - late))
    assert is_in(client) is counts


def test_a_code_counts_once_as_long_as_it_is_valid(app, olga, clock):
    _, key, _ = app
    clock.shift(600)
    enter(half_in(olga), code_for(key, START + 630))
    clock.shift(45)  # longer than one period, and the code is still within the tolerance
    thief = half_in(olga)
    enter(thief, code_for(key, START + 630))
    assert not is_in(thief)


def test_guessing_codes_is_slowed_down(app, olga):
    client = half_in(olga)
    answers = [enter(client, f"00000{number}").content.decode() for number in range(6)]
    assert ["Too many" in one for one in answers] == [False] * 5 + [True]


def test_that_they_are_is_recorded_once(app, olga):
    client = half_in(olga)
    for number in range(8):
        enter(client, f"00000{number}")
    assert len(said("factor.refused")) == 5
    assert [why.split(";")[0] for why, _ in said("session.refused")] == ["too many tries"]


def test_there_are_ten_recovery_codes_shown_once(app):
    client, _, codes = app
    assert len(set(codes)) == 10
    assert not set(codes) & set(re.findall(r"\d{8}", client.get("/accounts/recovery-codes/").content.decode()))


def test_a_recovery_code_lets_in_once(app, olga):
    _, _, codes = app
    first, second = half_in(olga), half_in(olga)
    enter(first, codes[0])
    enter(second, codes[0])
    assert (is_in(first), is_in(second)) == (True, False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_a_code_lets_in_once_also_at_the_same_time(app, olga, clock, kind):
    _, key, codes = app
    clock.shift(600)
    code = code_for(key, START + 600) if kind == "app" else codes[0]
    clients = [half_in(olga) for _ in range(4)]
    together = threading.Barrier(len(clients))

    def race(client):
        together.wait()
        enter(client, code)
        connection.close()

    threads = [threading.Thread(target=race, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [is_in(client) for client in clients].count(True) == 1


def test_new_recovery_codes_end_the_old_ones(app, olga):
    client, _, codes = app
    client.post("/accounts/recovery-codes/new/")
    late = half_in(olga)
    enter(late, codes[0])
    assert not is_in(late)


def test_removing_the_app_leaves_the_password_and_no_recovery_codes(app, olga):
    client, _, _ = app
    client.post("/accounts/app/remove/")
    assert not Authenticator.objects.exists()
    assert is_in(sign_in(olga)[0])


PAGES = ["app/remove/", "passkeys/add/", "recovery-codes/", "recovery-codes/new/"]


@pytest.mark.parametrize("path", PAGES)
def test_factors_are_seen_and_changed_only_after_a_recent_proof(app, clock, path):
    client, _, _ = app
    clock.shift(601)
    before = list(Authenticator.objects.values())
    assert client.get(f"/accounts/{path}")["Location"] == f"/accounts/confirm/?next=%2Faccounts%2F{quote(path, '')}"
    assert client.post(f"/accounts/{path}").status_code in (302, 403)
    assert list(Authenticator.objects.values()) == before


def test_a_code_is_such_a_proof(app, clock):
    client, key, _ = app
    clock.shift(601)
    client.post("/accounts/confirm/code/", {"code": code_for(key, START + 601), "next": "/accounts/app/remove/"})
    assert client.get("/accounts/app/remove/").status_code == 200


def test_a_used_code_is_none(app, olga, clock):
    client, key, _ = app
    clock.shift(601)
    enter(half_in(olga), code_for(key, START + 601))
    client.post("/accounts/confirm/code/", {"code": code_for(key, START + 601)})
    assert client.get("/accounts/app/remove/").status_code == 302


def test_a_change_signs_out_everywhere_else(app, olga, clock):
    client, key, _ = app
    clock.shift(60)
    elsewhere = half_in(olga)
    enter(elsewhere, code_for(key, START + 60))
    client.post("/accounts/app/remove/")
    assert (is_in(client), is_in(elsewhere)) == (True, False)


def said(action):
    return list(Entry.objects.filter(action=action).order_by("number").values_list("reason", "outcome"))


def test_the_audit_log_hears_of_each_step(app, olga, clock):
    _, key, _ = app
    clock.shift(60)
    late = half_in(olga)
    enter(late, "000000")
    enter(late, code_for(key, START + 60))
    late.post("/accounts/app/remove/")
    assert said("factor.added") == [("authenticator app", "ok"), ("recovery codes", "ok")]
    assert said("factor.refused") == [("authenticator app", "refused")]
    assert said("factor.used") == [("authenticator app", "ok")]
    assert said("factor.removed") == [("authenticator app", "ok"), ("recovery codes", "ok")]


def test_no_entry_no_change(app, monkeypatch):
    client, _, _ = app

    def fail(*_, **__):
        raise RuntimeError("the log is closed")

    monkeypatch.setattr("portal.accounts.sessions.record", fail)
    client.raise_request_exception = False
    assert client.post("/accounts/app/remove/").status_code == 500
    assert Authenticator.objects.filter(type="totp").exists()


def test_the_database_holds_no_key_and_no_code(app):
    _, key, codes = app
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert key not in stored
    assert not [code for code in codes if code in stored]
    assert set(re.findall(r"'(t1\.t1)\.", stored)) == {"t1.t1"}


def test_rotated_vault_keys_open_factors_too(app, olga, clock, settings):
    _, key, codes = app
    settings.VAULT_KEYS = f"{OTHERS},{settings.VAULT_KEYS}"
    call_command("rotate_vault_keys")
    settings.VAULT_KEYS = settings.VAULT_KEYS.split(",")[0]
    clock.shift(60)
    client, other = half_in(olga), half_in(olga)
    enter(client, code_for(key, START + 60))
    enter(other, codes[0])
    assert (is_in(client), is_in(other)) == (True, True)


OTHERS = "t2:" + "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU="


def test_without_their_vault_key_the_account_page_says_so_and_a_code_lets_nobody_in(app, olga, clock, settings):
    client, key, codes = app
    settings.VAULT_KEYS = OTHERS
    clock.shift(60)
    assert "missing from VAULT_KEYS" in client.get("/accounts/").content.decode()
    for code in (code_for(key, START + 60), codes[0]):
        late = half_in(olga)
        answer = enter(late, code)
        assert (answer.status_code, "missing from VAULT_KEYS" in answer.content.decode()) == (200, True)
        assert not is_in(late)


@pytest.mark.parametrize(("path", "status"), [("recovery-codes/", 302), ("recovery-codes/new/", 200)])
def test_nor_does_any_page_of_theirs_fail(app, settings, path, status):
    client, _, _ = app
    settings.VAULT_KEYS = OTHERS
    assert client.get(f"/accounts/{path}").status_code == status


def test_unreadable_recovery_codes_are_replaced_by_new_ones(app, settings):
    client, _, codes = app
    settings.VAULT_KEYS = OTHERS
    page = client.post("/accounts/recovery-codes/new/", follow=True).content.decode()
    assert len(set(re.findall(r"^(?:.*>)?(\d{8})$", page, re.MULTILINE)) - set(codes)) == 10


def test_confirming_by_an_unreadable_app_says_so_too(app, clock, settings):
    client, key, _ = app
    settings.VAULT_KEYS = OTHERS
    clock.shift(601)
    answer = client.post("/accounts/confirm/code/", {"code": code_for(key, START + 601)})
    assert (answer.status_code, "missing from VAULT_KEYS" in answer.content.decode()) == (200, True)


def test_one_that_cannot_be_read_keeps_no_other_from_being_rotated(app, olga, victor, clock, settings):
    _, key, _ = app
    Authenticator.objects.create(user=victor, type="totp", data={"secret": "t1.lost.AAAA.AAAA"})
    settings.VAULT_KEYS = f"{OTHERS},{settings.VAULT_KEYS}"
    with pytest.raises(CommandError, match="2 keys re-encrypted under t2; 1 could not be opened"):
        call_command("rotate_vault_keys")
    settings.VAULT_KEYS = OTHERS
    clock.shift(60)
    client = half_in(olga)
    enter(client, code_for(key, START + 60))
    assert is_in(client)


def test_who_lost_all_is_helped_on_the_command_line(app, olga):
    client, _, _ = app
    call_command("remove_second_factors", email=olga.email)
    assert not is_in(client)
    assert is_in(sign_in(olga)[0])
    assert said("factor.removed") != []
    assert Entry.objects.filter(action="factor.removed", actor=None).exists()


def test_nobody_removes_somebody_else_s_passkey(app, victor):
    passkey = Authenticator.objects.create(user=victor, type="webauthn", data={"name": "Victor's"})
    client, _, _ = app
    assert client.post(f"/accounts/passkeys/{passkey.pk}/remove/").status_code == 404
    assert Authenticator.objects.filter(pk=passkey.pk).exists()


@pytest.mark.parametrize("sent", ["", "x", "{}", '{"response": {}}', '{"id": "x", "rawId": "x", "type": "public-key"}'])
def test_nonsense_for_a_passkey_is_refused(app, olga, sent):
    client = half_in(olga)
    assert client.post("/accounts/login/factor/", {"credential": sent}).status_code == 200
    assert Client().post("/accounts/login/passkey/", {"credential": sent})["Location"] == "/accounts/login/"
    assert not is_in(client)
