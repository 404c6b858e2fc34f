"""ASVS 8.4.1: what belongs to another team does not exist, wherever its id is put."""

import pytest
from django.urls import reverse
from django.utils import timezone

from engines.models import Engine, Operation
from portal.accounts.access import TABLE
from portal.accounts.models import Invitation, Membership
from portal.audit.models import Entry
from portal.vault.models import StoredKey
from tests.security.world import patterns

WITH_ID = sorted(entry.name for entry in patterns() if entry.pattern.converters)


def theirs(name, engine, operation):
    """The address of that name with the ids of Acme's rows."""
    member = Membership.objects.filter(team=engine.team).values_list("pk", flat=True)[0]
    wanted = next(entry for entry in patterns() if entry.name == name).pattern.converters
    invitation = Invitation.objects.create(
        team=engine.team, email="new@acme.example", role="viewer", nonce="n", expires_at=timezone.now()
    )
    first = Entry.objects.filter(team=engine.team).order_by("number").first()
    key = str(StoredKey.objects.of(engine.team).values_list("pk", flat=True)[0])
    ids = {
        "uid": engine.uid,
        "pk": str(operation.pk),
        "number": first.number if first else 1,
        "member": member,
        "key": key,
        "connection": engine.connection_id,
        "invitation": invitation.pk,
        "token": "none",
    }
    return reverse(name, kwargs={key: ids[key] for key in wanted})


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", WITH_ID)
def test_a_foreign_id_is_unknown(client_of, mallory, engine, operation, name, method):
    if method not in TABLE[name]:
        return
    Entry.objects.filter(team=mallory.memberships.get().team).count()
    before = (list(Operation.objects.values()), list(Engine.objects.values()))
    answer = client_of(mallory).generic(method, theirs(name, engine, operation))
    assert answer.status_code == 404, name
    assert engine.name not in answer.content.decode()
    assert (list(Operation.objects.values()), list(Engine.objects.values())) == before


@pytest.mark.parametrize("path", ["/engines/", "/operations/", "/keys/", "/team/", "/audit/"])
def test_lists_name_nothing_of_another_team(client_of, mallory, engine, operation, path):
    page = client_of(mallory).get(path).content.decode()
    for word in (engine.uid, engine.name, "kernel patch", "olga@acme", "Acme"):
        assert word not in page


@pytest.mark.parametrize(
    "query", ["?q=gpu-1", "?engine=eng_1", "?team=acme", "?connection=1", "?actor=olga@acme.example"]
)
@pytest.mark.parametrize("path", ["/engines/", "/operations/", "/audit/"])
def test_no_filter_reaches_another_team(client_of, mallory, engine, operation, path, query):
    answer = client_of(mallory).get(path + query)
    assert "kernel patch" not in answer.content.decode()
    assert "/engines/eng_1/" not in answer.content.decode()


def test_a_team_one_is_not_in_cannot_be_switched_to(client_of, mallory, acme):
    browser = client_of(mallory)
    assert browser.post("/team/switch/", {"team": acme.slug}).status_code in (400, 403, 404)
    assert "Acme" not in browser.get("/team/").content.decode()
