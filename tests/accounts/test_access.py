"""The table of addresses and roles: complete, enforced for every cell, and closed for what it does not name."""

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from portal.accounts.access import PUBLIC, TABLE, who
from portal.accounts.models import Membership
from portal.accounts.roles import Role

CAST = {"ada": "admin", "olga": "operator", "bill": "billing", "audra": "auditor", "victor": "viewer"}
ARGUMENTS = {"uid": "eng_none", "pk": "00000000-0000-0000-0000-000000000000", "number": 1}
METHODS = ("GET", "POST", "PUT", "DELETE")


def patterns(resolver=None):
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLResolver):
            yield from patterns(entry)
        elif isinstance(entry, URLPattern):
            yield entry


def url_of(name):
    pattern = next(entry for entry in patterns() if entry.name == name)
    wanted = pattern.pattern.converters
    return reverse(name, kwargs={key: ARGUMENTS[key] for key in wanted})


def test_every_address_is_in_the_table():
    assert {entry.name for entry in patterns()} == set(TABLE)


def test_what_the_table_does_not_name_is_closed():
    assert who("no-such-address", "GET") == frozenset()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(set(TABLE) - {"live", "account_logout"}))
@pytest.mark.parametrize("person", CAST)
def test_every_cell_of_the_table_holds(request, client_of, person, name, method):
    user = request.getfixturevalue(person)
    status = client_of(user).generic(method, url_of(name)).status_code
    allowed = who(name, method)
    if isinstance(allowed, frozenset) and CAST[person] not in allowed:
        assert status == 403
    else:
        assert status not in (401, 403, 500)


@pytest.mark.parametrize("name", sorted(name for name, methods in TABLE.items() if PUBLIC not in methods.values()))
def test_strangers_are_sent_to_sign_in(client, db, name):
    method = next(iter(TABLE[name]))
    answer = client.generic(method, url_of(name))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/")


def test_a_fragment_never_gets_a_sign_in_page(client, db):
    answer = client.get("/engines/", headers={"HX-Request": "true"})
    assert answer["HX-Redirect"].startswith("/accounts/login/")
    assert b"<form" not in answer.content


def test_a_person_without_a_team_is_told_so(client_of, ada):
    Membership.objects.all().delete()
    answer = client_of(ada).get("/engines/")
    assert answer.status_code == 403
    assert "no team" in answer.content.decode()


def test_a_role_change_holds_at_the_next_request(client_of, ada):
    client = client_of(ada)
    assert client.get("/audit/").status_code == 200
    Membership.objects.update(role=Role.VIEWER)
    assert client.get("/audit/").status_code == 403


def test_the_refusal_names_the_roles_that_may(client_of, victor):
    page = client_of(victor).get("/audit/").content.decode()
    assert "Auditor or Admin" in page


def test_nobody_switches_into_a_foreign_team(client_of, ada, other_team):
    assert client_of(ada).post("/team/switch/", {"team": "mallory-inc"}).status_code == 404


def test_a_member_of_two_teams_acts_in_the_chosen_one(client_of, ada, other_team):
    Membership.objects.create(user=ada, team=other_team, role=Role.VIEWER)
    client = client_of(ada)
    client.post("/team/switch/", {"team": "mallory-inc"})
    assert client.get("/audit/").status_code == 403
