"""Keys at rest: sealed for one row, opened with the right key only, never printed."""

import base64
import pickle
import threading
import traceback

import pytest
from allauth.mfa.models import Authenticator
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from portal.accounts.factors.adapter import PURPOSE
from portal.accounts.models import User
from portal.audit.models import Entry
from portal.vault.keys import Sealed, Secret, fingerprint, flag, rewrap, store, unseal
from portal.vault.models import Connection, StoredKey
from portal.vault.texts import seal_text

pytestmark = pytest.mark.django_db
CANARY = "inf_CANARY_7f3a9"
OTHER = "k2:" + base64.b64encode(b"o" * 32).decode()


@pytest.fixture
def stored(olga, acme_connection):
    return store(user=olga, connection=acme_connection, secret=Secret(CANARY), label="laptop", scopes=["*"])


def again(row):
    return StoredKey.objects.get(pk=row.pk)


def test_what_was_sealed_is_opened(stored):
    assert unseal(again(stored)).reveal() == CANARY


def test_the_row_does_not_hold_the_key(stored):
    row = StoredKey.objects.filter(pk=stored.pk).values().get()
    assert CANARY not in str(row)
    assert row["last_four"] == CANARY[-4:]


def test_two_seals_of_one_key_differ(stored, ada, acme_connection):
    other = store(user=ada, connection=acme_connection, secret=Secret(CANARY), label="x", scopes=[])
    assert stored.sealed.split(".")[4] != other.sealed.split(".")[4]


def test_moved_to_another_row_it_does_not_open(stored, ada, acme_connection):
    other = store(user=ada, connection=acme_connection, secret=Secret("inf_other"), label="x", scopes=[])
    StoredKey.objects.filter(pk=other.pk).update(sealed=stored.sealed)
    with pytest.raises(Sealed):
        unseal(again(other))


def test_pointed_at_another_address_it_does_not_open(stored):
    Connection.objects.update(base_url="https://evil.example")
    with pytest.raises(Sealed):
        unseal(again(stored))


def test_without_its_key_encryption_key_it_says_so(stored, settings):
    settings.VAULT_KEYS = OTHER
    with pytest.raises(Sealed, match="has no key 't1'"):
        unseal(again(stored))


def test_with_a_wrong_key_of_that_name_it_says_so(stored, settings):
    settings.VAULT_KEYS = OTHER.replace("k2", "t1")
    with pytest.raises(Sealed, match="not what it was sealed with"):
        unseal(again(stored))


def test_rotation_puts_every_key_under_the_first(stored, settings):
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    call_command("rotate_vault_keys")
    settings.VAULT_KEYS = OTHER
    assert unseal(again(stored)).reveal() == CANARY


def test_before_rotation_old_keys_open_beside_new_ones(stored, ada, acme_connection, settings):
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    new = store(user=ada, connection=acme_connection, secret=Secret("inf_new"), label="new", scopes=[])
    assert new.sealed.startswith("v1.k2.")
    assert unseal(again(stored)).reveal() == CANARY


def test_a_rotation_cut_short_goes_on_where_it_was(stored, ada, acme_connection, settings, capsys):
    other = store(user=ada, connection=acme_connection, secret=Secret("inf_other"), label="x", scopes=[])
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    StoredKey.objects.filter(pk=stored.pk).update(sealed=rewrap(stored, settings.VAULT_KEYS))
    call_command("rotate_vault_keys")
    assert capsys.readouterr().out == "1 keys re-encrypted under k2\n"
    settings.VAULT_KEYS = OTHER
    assert [unseal(again(row)).reveal() for row in (stored, other)] == [CANARY, "inf_other"]


@pytest.mark.django_db(transaction=True)
def test_a_rotation_killed_in_the_middle_has_kept_what_it_did(acme, acme_connection, settings, monkeypatch, capsys):
    people = [User.objects.create_user(f"p{number}@acme.example") for number in range(5)]
    for number, person in enumerate(people):
        secret = Secret(f"inf_person_{number}")
        store(user=person, connection=acme_connection, secret=secret, label="x", scopes=[])
    old, settings.VAULT_KEYS = settings.VAULT_KEYS, f"{OTHER},{settings.VAULT_KEYS}"
    sealed = []

    def killed(row, keys):
        if len(sealed) == 2:
            raise SystemExit(137)
        sealed.append(row)
        return rewrap(row, keys)

    monkeypatch.setattr("portal.vault.management.commands.rotate_vault_keys.rewrap", killed)
    with pytest.raises(SystemExit):
        call_command("rotate_vault_keys")
    connection.close()  # whatever was not committed is gone
    assert StoredKey.objects.filter(sealed__startswith="v1.k2.").count() == 2
    assert sorted(unseal(row).reveal() for row in StoredKey.objects.all()) == [f"inf_person_{n}" for n in range(5)]
    monkeypatch.undo()
    settings.VAULT_KEYS = f"{OTHER},{old}"
    call_command("rotate_vault_keys")
    assert capsys.readouterr().out == "3 keys re-encrypted under k2\n"
    settings.VAULT_KEYS = OTHER
    assert sorted(unseal(row).reveal() for row in StoredKey.objects.all()) == [f"inf_person_{n}" for n in range(5)]


def test_rotation_can_be_run_again(stored, settings, capsys):
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    call_command("rotate_vault_keys")
    call_command("rotate_vault_keys")
    assert capsys.readouterr().out.splitlines() == ["1 keys re-encrypted under k2", "0 keys re-encrypted under k2"]


def test_rotation_without_the_old_key_leaves_the_row_and_fails(stored, settings):
    settings.VAULT_KEYS = OTHER
    with pytest.raises(CommandError):
        call_command("rotate_vault_keys")
    assert again(stored).sealed == stored.sealed


def test_what_is_sealed_with_a_former_key_meanwhile_is_no_success(stored, settings, monkeypatch):
    old, settings.VAULT_KEYS = settings.VAULT_KEYS, f"{OTHER},{settings.VAULT_KEYS}"

    def replaced_meanwhile(row, keys):
        sealed = rewrap(row, keys)
        StoredKey.objects.update(sealed=rewrap(row, old))
        return sealed

    monkeypatch.setattr("portal.vault.management.commands.rotate_vault_keys.rewrap", replaced_meanwhile)
    with pytest.raises(CommandError, match="0 keys re-encrypted under k2; 1 are under another key"):
        call_command("rotate_vault_keys")


def test_rotation_is_in_the_log_of_each_team_that_it_is_about(stored, mallory, other_team, settings):
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    call_command("rotate_vault_keys")
    call_command("rotate_vault_keys")
    entry = Entry.objects.get(action="vault.rotated")
    assert (entry.team, entry.actor, entry.after) == (stored.team, None, {"under": "k2"})


def test_so_is_that_of_a_member_s_second_factor(mallory, other_team, settings):
    Authenticator.objects.create(
        user=mallory, type="totp", data={"secret": seal_text("x", PURPOSE, settings.VAULT_KEYS)}
    )
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    call_command("rotate_vault_keys")
    assert Entry.objects.get(action="vault.rotated").team == other_team


def test_verifying_says_which_key_opens_how_many_and_changes_nothing(stored, victor, settings, capsys):
    secret = seal_text("x", PURPOSE, OTHER)
    Authenticator.objects.create(user=victor, type="totp", data={"secret": secret})
    settings.VAULT_KEYS = f"{OTHER},{settings.VAULT_KEYS}"
    call_command("rotate_vault_keys", verify=True)
    assert capsys.readouterr().out == "k2: 1 open\nt1: 1 open\n"
    assert again(stored).sealed == stored.sealed
    assert not Entry.objects.filter(action="vault.rotated").exists()


def test_verifying_fails_for_what_does_not_open(stored, settings, capsys):
    settings.VAULT_KEYS = OTHER
    with pytest.raises(CommandError, match="1 cannot be opened"):
        call_command("rotate_vault_keys", verify=True)
    assert capsys.readouterr().out == "k2: 0 open\nt1: 0 open\n"


def test_verifying_goes_on_past_a_damaged_row(stored, mallory, capsys):
    theirs = Connection.objects.create(team=mallory.memberships.get().team, name="x", base_url="http://127.0.0.1:2")
    store(user=mallory, connection=theirs, secret=Secret("inf_theirs"), label="x", scopes=[])
    StoredKey.objects.filter(pk=stored.pk).update(sealed="")
    with pytest.raises(CommandError, match="1 cannot be opened"):
        call_command("rotate_vault_keys", verify=True)
    assert "t1: 1 open" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "v1", "v1.t1.x.y.z", "v2.t1.AAAA.AAAA.AAAA", "v1.t1.....", "\u2603"])
def test_a_damaged_row_says_so(stored, text):
    StoredKey.objects.update(sealed=text)
    with pytest.raises(Sealed, match="damaged"):
        unseal(again(stored))


def test_moved_to_another_team_it_does_not_open(stored, other_team):
    StoredKey.objects.update(team=other_team)
    with pytest.raises(Sealed):
        unseal(again(stored))


@pytest.mark.parametrize("keys", ["", "k1", "k1:", "k1:c2hvcnQ=", "k1:!!!", ":" + OTHER[3:], f"{OTHER},{OTHER}"])
def test_the_portal_does_not_start_with_keys_it_cannot_use(settings, keys):
    settings.VAULT_KEYS = keys
    with pytest.raises(ImproperlyConfigured, match="VAULT_KEYS"):
        apps.get_app_config("vault").ready()


def test_of_a_short_key_not_even_the_end_is_kept(olga, acme_connection):
    row = store(user=olga, connection=acme_connection, secret=Secret("inf_short"), label="x", scopes=[])
    assert row.last_four == ""


@pytest.mark.django_db(transaction=True)
def test_two_tabs_that_store_at_once_leave_one_key(olga, acme_connection):
    def tab(number):
        store(user=olga, connection=acme_connection, secret=Secret(f"inf_{number}"), label=f"{number}", scopes=[])
        connection.close()

    threads = [threading.Thread(target=tab, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = StoredKey.objects.get()
    assert unseal(row).reveal() == f"inf_{row.label}"


def test_its_fingerprint_depends_on_the_vault_key_and_on_no_other_secret(settings):
    first = fingerprint(Secret(CANARY))
    settings.SECRET_KEY = "another " * 8
    assert fingerprint(Secret(CANARY)) == first != fingerprint(Secret("inf_other"))
    settings.VAULT_KEYS = OTHER
    assert fingerprint(Secret(CANARY)) != first


def test_one_of_an_earlier_kind_still_tells_which_key_it_was(stored):
    StoredKey.objects.update(fingerprint="f" * 64)
    flag(again(stored), "The API refused it.")
    assert again(stored).last_error == "The API refused it."


def test_storing_again_replaces(stored, olga, acme_connection):
    store(user=olga, connection=acme_connection, secret=Secret("inf_new"), label="new", scopes=["*"])
    assert unseal(StoredKey.objects.get()).reveal() == "inf_new"


def test_storing_is_audited_without_the_key(stored):
    entry = Entry.objects.get(action="key.stored")
    assert CANARY not in str(Entry.objects.filter(pk=entry.pk).values().get())


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>30}".format, lambda secret: f"{secret}"])
def test_a_secret_prints_as_dots(show):
    assert CANARY not in show(Secret(CANARY))


def test_a_secret_does_not_leave_the_process():
    with pytest.raises(TypeError):
        pickle.dumps(Secret(CANARY))


def test_a_failed_opening_shows_no_key_with_all_locals(stored, settings):
    settings.VAULT_KEYS = OTHER
    try:
        unseal(again(stored))
    except Sealed as error:
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert CANARY not in "".join(report.format())
