"""Saved filters: a person's own, in one team."""

import pytest

from portal.accounts.models import Membership
from portal.audit.models import SavedFilter

pytestmark = pytest.mark.django_db


@pytest.fixture
def saved(audra, client_of):
    client_of(audra).post("/audit/filters/?actor=ada&cursor=x&before=7", {"name": "Ada's"})
    return SavedFilter.objects.get()


def names(client):
    return [one.name for one in client.get("/audit/").context["saved"]]


def test_it_keeps_the_filter_and_not_the_place_in_the_list(saved):
    assert saved.query == "?actor=ada"


def test_its_owner_finds_it_on_the_page(saved, audra, client_of):
    page = client_of(audra).get("/audit/").content.decode()
    assert 'href="/audit/?actor=ada"' in page


def test_nobody_else_sees_it(saved, ada, client_of):
    assert names(client_of(ada)) == []


def test_it_stays_in_its_team(saved, audra, other_team, client_of):
    Membership.objects.create(user=audra, team=other_team, role="auditor")
    client = client_of(audra)
    client.post("/team/switch/", {"team": other_team.slug})
    assert names(client) == []


def test_the_same_name_replaces_it(saved, audra, client_of):
    client_of(audra).post("/audit/filters/?outcome=failed", {"name": "Ada's"})
    assert SavedFilter.objects.get().query == "?outcome=failed"


def test_its_owner_deletes_it(saved, audra, client_of):
    client_of(audra).post(f"/audit/filters/{saved.pk}/delete/")
    assert not SavedFilter.objects.exists()


def test_nobody_else_deletes_it(saved, ada, client_of):
    assert client_of(ada).post(f"/audit/filters/{saved.pk}/delete/").status_code == 404
    assert SavedFilter.objects.exists()


@pytest.mark.parametrize("name", ["", "  ", "\0"])
def test_it_needs_a_name(audra, client_of, name):
    assert client_of(audra).post("/audit/filters/?actor=ada", {"name": name}).status_code == 302
    assert not SavedFilter.objects.exists()


def test_there_is_a_limit(audra, client_of, monkeypatch):
    monkeypatch.setattr("portal.audit.views.SAVED_LIMIT", 1)
    client = client_of(audra)
    for name in ("one", "two"):
        client.post("/audit/filters/?actor=ada", {"name": name})
    assert names(client) == ["one"]
