"""The table of addresses and roles: complete, closed for what it does not name, and said in words.

Each of its cells is tried in tests/security/test_roles.py.
"""

import pytest

from portal.accounts.access import PUBLIC, SIGNED_IN, TABLE, who
from portal.accounts.models import Membership
from portal.accounts.roles import Role
from portal.accounts.views import ABILITIES
from tests.security.world import patterns


def test_every_address_is_in_the_table():
    assert {entry.name for entry in patterns()} == set(TABLE)


def test_what_the_table_does_not_name_is_closed():
    assert who("no-such-address", "GET") == frozenset()


def test_a_fragment_never_gets_a_sign_in_page(client, db):
    answer = client.get("/engines/", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer["HX-Redirect"].startswith("/accounts/login/")
    assert b"<form" not in answer.content


def test_after_sign_in_a_fragment_s_page_comes_back(client, db):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/engines/?q=gpu"}
    answer = client.post("/engines/eng_1/drain/", headers=headers)
    assert answer["HX-Redirect"] == "/accounts/login/?next=%2Fengines%2F%3Fq%3Dgpu"


def test_a_page_elsewhere_is_not_come_back_to(client, db):
    headers = {"HX-Request": "true", "HX-Current-URL": "https://evil.example/engines/"}
    assert client.get("/engines/", headers=headers)["HX-Redirect"] == "/accounts/login/"


def test_the_team_page_says_every_cell_in_words():
    said = {cell for cells in ABILITIES.values() for cell in cells}
    cells = {(name, method) for name, methods in TABLE.items() for method in methods}
    assert said == {cell for cell in cells if who(*cell) not in (PUBLIC, SIGNED_IN)}


def test_the_team_page_shows_what_the_server_does(client_of, victor):
    page = client_of(victor).get("/team/")
    drain = next(one for one in page.context["abilities"] if one["label"] == "Drain engines")
    assert [role for role, allowed in drain["roles"] if allowed] == [Role.OPERATOR, Role.ADMIN]


def test_people_of_other_teams_are_not_on_the_team_page(client_of, victor, mallory):
    assert "Mallory" not in client_of(victor).get("/team/").content.decode()


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


@pytest.mark.parametrize("team", ["", "nul\0", "x" * 5000])
def test_nobody_switches_into_nonsense(client_of, ada, team):
    assert client_of(ada).post("/team/switch/", {"team": team}).status_code == 404


def test_a_member_of_two_teams_acts_in_the_chosen_one(client_of, ada, other_team):
    Membership.objects.create(user=ada, team=other_team, role=Role.VIEWER)
    client = client_of(ada)
    client.post("/team/switch/", {"team": "mallory-inc"})
    assert client.get("/audit/").status_code == 403
