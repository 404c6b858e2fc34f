"""What a real deployment begins with: a team, its people and its API, from the command line."""

import io

import pytest
from django.core.management import CommandError, call_command

from portal.accounts.models import Membership, User
from portal.audit.models import Entry
from portal.vault.models import Connection

pytestmark = pytest.mark.django_db


@pytest.fixture
def add(monkeypatch):
    def run(email="ada@new.example", role="admin", password="a long enough password"):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        call_command("add_member", team="new-team", email=email, role=role)

    return run


def test_the_first_member_makes_the_team(add):
    add()
    assert Membership.objects.get().team.slug == "new-team"
    assert User.objects.get().check_password("a long enough password")


def test_again_with_another_role_changes_the_role_and_keeps_the_password(add):
    add(role="operator")
    add(role="auditor", password="something else entirely")
    assert Membership.objects.get().role == "auditor"
    assert User.objects.get().check_password("a long enough password")


def test_both_are_in_the_audit_log(add):
    add(role="operator")
    add(role="auditor")
    entry = Entry.objects.latest("number")
    assert (entry.before, entry.after) == ({"role": "operator"}, {"role": "auditor"})


def test_the_last_admin_stays_one(add):
    add()
    with pytest.raises(CommandError, match="last admin"):
        add(role="auditor")
    assert Membership.objects.get().role == "admin"


def test_one_of_two_admins_gets_another_role(add):
    add()
    add(email="ben@new.example")
    add(role="auditor")
    assert sorted(Membership.objects.values_list("role", flat=True)) == ["admin", "auditor"]


@pytest.mark.parametrize(("email", "password"), [("no address", "a long enough password"), ("a@b.example", "short")])
def test_a_bad_address_or_weak_password_makes_nothing(add, email, password):
    with pytest.raises(CommandError):
        add(email=email, password=password)
    assert not User.objects.exists()


def test_a_connection_is_added_once(acme):
    call_command("add_connection", team="acme", name="Hosted", url="https://api.example/")
    assert Connection.objects.get().base_url == "https://api.example"
    with pytest.raises(CommandError, match="already"):
        call_command("add_connection", team="acme", name="Again", url="https://api.example")


@pytest.mark.parametrize(
    "url", ["http://api.example", "ftp://x", "https://", "https://me:pw@api.example", "https://a/?b"]
)
def test_keys_do_not_travel_to_odd_addresses(acme, url):
    with pytest.raises(CommandError):
        call_command("add_connection", team="acme", name="Odd", url=url)
