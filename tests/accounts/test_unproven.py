"""Whose an account is: an admin who follows the link of an invitation himself has not become the invited person."""

import io
import re
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F

from portal.accounts import invitations
from portal.accounts.models import Invitation, Membership, User
from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
NINA = "nina@acme.example"
NEW = {"name": "Nina", "password1": "plenty of strong words", "password2": "plenty of strong words"}


@pytest.fixture
def mailing(settings):
    settings.EMAIL_HOST, settings.PORTAL_URL = "mail.example", "http://testserver"


@pytest.fixture
def shown(confirmed, mallory):
    """The link to Mallory's team that Mallory sees."""
    browser = confirmed(mallory)
    browser.post("/team/invite/", {"email": NINA, "role": "viewer"})
    return re.search(r'value="http://testserver(/join/[^"]+)"', browser.get("/team/").content.decode())[1]


def mailed():
    return re.search(r"http://testserver(/join/\S+)", mail.outbox[-1].body)[1]


def nina():
    return User.objects.get(email=NINA)


def add(**more):
    call_command("add_member", team="acme", email=NINA, role="admin", **more)


def test_by_the_link_that_an_admin_sees_the_address_is_not_proven(mailing, shown, client):
    client.post(shown, NEW)
    assert nina().unproven_since is not None
    assert Entry.objects.get(action="member.added").detail["address_proven"] is False


def test_by_the_mailed_link_it_is(mailing, shown, client):
    client.post(mailed(), NEW)
    assert nina().unproven_since is None
    assert Entry.objects.get(action="member.added").detail["address_proven"] is True


def test_the_two_links_differ_and_an_admin_sees_only_one(mailing, confirmed, shown, mallory):
    assert mailed() != shown
    assert mailed() not in confirmed(mallory).get("/team/").content.decode()


def test_the_command_line_gives_such_an_account_no_role(acme, shown, client):
    client.post(shown, NEW)
    with pytest.raises(CommandError, match="--existing"):
        add()
    assert not Membership.objects.filter(team=acme).exists()


def test_unless_it_vouches_for_it(acme, shown, client):
    client.post(shown, NEW)
    add(existing=True)
    assert Membership.objects.get(team=acme).user == nina()
    assert nina().unproven_since is None


def test_whom_the_command_line_adds_is_vouched_for(acme, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough password\n"))
    add()
    assert nina().unproven_since is None


def test_a_mailed_link_proves_an_account_that_is_there(mailing, shown, client, confirmed, ada):
    client.post(shown, NEW)
    confirmed(ada).post("/team/invite/", {"email": NINA, "role": "viewer"})
    confirmed(nina()).post(mailed())
    assert nina().unproven_since is None


def test_a_link_that_was_shown_does_not(shown, client, confirmed, ada):
    client.post(shown, NEW)
    browser = confirmed(ada)
    browser.post("/team/invite/", {"email": NINA, "role": "viewer"})
    link = re.search(r'value="http://testserver(/join/[^"]+)"', browser.get("/team/").content.decode())[1]
    confirmed(nina()).post(link)
    assert Membership.objects.filter(user=nina()).count() == 2
    assert nina().unproven_since is not None


def test_the_team_page_says_of_whom_it_is_not_known(shown, client, confirmed, mallory):
    browser = confirmed(mallory)
    assert "not proven" not in browser.get("/team/").content.decode()
    client.post(shown, NEW)
    assert f"{NINA} (not proven)" in browser.get("/team/").content.decode()


@pytest.mark.parametrize("proven", [True, False])
def test_joining_changes_nothing_else_of_an_account_that_is_there(shown, client, confirmed, ada, rf, proven):
    client.post(shown, NEW)
    confirmed(ada).post("/team/invite/", {"email": NINA, "role": "viewer"})
    stale, request = nina(), rf.get("/")
    request.request_id = "r"
    User.objects.filter(email=NINA).update(name="Nina Newman")
    invitations.accept(request, Invitation.objects.get(accepted_at=None), stale, proven=proven)
    assert nina().name == "Nina Newman"


@pytest.mark.parametrize(("days", "doubted"), [(0, True), (1, False)])
def test_an_upgrade_doubts_only_accounts_that_an_invitation_made(shown, client, days, doubted):
    client.post(shown, NEW)
    User.objects.update(unproven_since=None, date_joined=F("date_joined") - timedelta(days=days))
    migration = import_module("portal.accounts.migrations.0004_unproven_addresses")
    migration.doubt_the_invited(apps, connection.schema_editor())
    assert (nina().unproven_since is not None) == doubted
