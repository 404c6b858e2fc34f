"""F27: without the key-encryption key, or with a wrong one, only what was sealed with it stops, and it says so."""

import base64

import pytest
from django.core.management import CommandError, call_command

from engines.enums import State
from engines.models import Engine
from engines.operations.send import send
from engines.snapshots import refresh
from portal.vault.keys import Secret, store, unseal
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import NOW, dto
from tests.engines.scripted_api import ScriptedApi

pytestmark = pytest.mark.django_db
OURS = "t1:" + "dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q="
THEIRS = "k2:" + base64.b64encode(b"o" * 32).decode()
WRONG = "t1:" + base64.b64encode(b"w" * 32).decode()
LOST = [pytest.param(THEIRS, id="missing"), pytest.param(f"{THEIRS},{WRONG}", id="wrong")]


@pytest.fixture
def theirs(mallory, other_team, settings):
    """Mallory's team with an API of its own, its key sealed with another key-encryption key than Acme's."""
    served = ScriptedApi()
    served.engines["eng_9"] = dto(uid="eng_9", name="theirs")
    connection = Connection.objects.create(team=other_team, name="Theirs", base_url=served.url)
    settings.VAULT_KEYS = f"{THEIRS},{OURS}"
    store(user=mallory, connection=connection, secret=Secret("inf_mallory_key"), label="M", scopes=["*"])
    settings.VAULT_KEYS = OURS
    yield connection
    served.close()


@pytest.mark.parametrize("keys", LOST)
def test_only_the_team_whose_key_is_lost_is_not_read(api, engine, olgas_key, theirs, settings, keys):
    settings.VAULT_KEYS = keys
    for connection in Connection.objects.all():
        refresh(connection.pk, NOW)
    lost = Connection.objects.get(pk=olgas_key.connection_id)
    assert "cannot be opened" in lost.last_error
    assert Connection.objects.get(pk=theirs.pk).last_error == ""
    assert Engine.objects.filter(uid="eng_9").exists()
    assert api.requests == []


@pytest.mark.parametrize("keys", LOST)
def test_its_pages_say_what_is_missing_and_the_rest_works(api, engine, olgas_key, olga, client_of, settings, keys):
    settings.VAULT_KEYS = keys
    refresh(olgas_key.connection_id, NOW)
    browser = client_of(olga)
    pages = {path: browser.get(path) for path in ("/engines/", "/engines/eng_1/", "/keys/", "/operations/", "/team/")}
    assert {answer.status_code for answer in pages.values()} == {200}
    assert "VAULT_KEYS" in pages["/keys/"].content.decode()
    assert "gpu-1" in pages["/engines/"].content.decode()
    assert "inf_olga" not in "".join(answer.content.decode() for answer in pages.values())


@pytest.mark.parametrize("keys", LOST)
def test_nothing_is_sent_and_the_operation_says_why(api, operation, settings, keys):
    settings.VAULT_KEYS = keys
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.FAILED
    assert "cannot be opened" in operation.note
    assert api.requests == []


@pytest.mark.parametrize("keys", LOST)
def test_what_is_sealed_is_not_overwritten_and_opens_again(api, olgas_key, olga, client_of, settings, keys):
    settings.VAULT_KEYS = keys
    refresh(olgas_key.connection_id, NOW)
    client_of(olga).post(f"/keys/{olgas_key.pk}/test/")
    with pytest.raises(CommandError, match="1 could not be opened"):
        call_command("rotate_vault_keys")
    row = StoredKey.objects.get()
    assert row.sealed == olgas_key.sealed
    settings.VAULT_KEYS = OURS
    assert unseal(row).reveal() == "inf_olga_key"
    client_of(olga).post(f"/keys/{olgas_key.pk}/test/")
    assert StoredKey.objects.get().last_error == ""


@pytest.mark.parametrize("keys", LOST)
def test_rotation_seals_the_keys_that_it_can_open(api, olgas_key, theirs, settings, keys):
    newest = "k3:" + base64.b64encode(b"n" * 32).decode()
    settings.VAULT_KEYS = f"{newest},{keys}"
    with pytest.raises(CommandError, match="1 keys re-encrypted under k3; 1 could not be opened"):
        call_command("rotate_vault_keys")
    settings.VAULT_KEYS = newest
    assert unseal(StoredKey.objects.get(connection=theirs)).reveal() == "inf_mallory_key"
    assert StoredKey.objects.get(pk=olgas_key.pk).sealed == olgas_key.sealed


@pytest.mark.parametrize("keys", LOST)
def test_revoking_such_a_key_at_the_api_is_not_claimed(api, olgas_key, olga, confirmed, settings, keys):
    settings.VAULT_KEYS = keys
    page = confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"}).content.decode()
    assert "It is not certain" in page
    confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "here"})
    assert StoredKey.objects.count() == 0
