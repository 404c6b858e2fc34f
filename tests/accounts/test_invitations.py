"""Joining a team by a link: once, for seven days, for the invited address, as long as who invited may."""

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from portal.accounts import invitations
from portal.accounts.models import Invitation, Membership, User
from portal.accounts.roles import Role
from portal.audit.models import Entry
from tests.conftest import member

pytestmark = pytest.mark.django_db
NEW = {"name": "Nina", "password1": "plenty of strong words", "password2": "plenty of strong words"}


def invite(browser, email="nina@new.example", role="operator"):
    return browser.post("/team/invite/", {"email": email, "role": role})


def link_of(browser):
    """The first link that the team page shows."""
    found = re.search(r'value="http://testserver(/join/[^"]+)"', browser.get("/team/").content.decode())
    return found[1] if found else ""


@pytest.fixture
def admin(confirmed, ada):
    return confirmed(ada)


@pytest.fixture
def link(admin):
    invite(admin)
    return link_of(admin)


def page(answer):
    return answer.content.decode()


def test_somebody_new_makes_an_account_and_is_in_the_team(link, client, acme):
    assert "nina@new.example" in page(client.get(link))
    assert client.post(link, NEW)["Location"] == "/accounts/login/"
    user = User.objects.get(email="nina@new.example")
    assert (user.name, Membership.objects.get(user=user, team=acme).role) == ("Nina", Role.OPERATOR)
    assert user.check_password(NEW["password1"])


def test_the_new_account_signs_in_like_any_other(link, client):
    client.post(link, NEW)
    assert client.get("/engines/").status_code == 302
    client.post("/accounts/login/", {"login": "nina@new.example", "password": NEW["password1"]})
    assert client.get("/engines/").status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"password1": "short", "password2": "short"},
        {"password1": "1qaz2wsx3edc", "password2": "1qaz2wsx3edc"},
        {"password1": "nina@new.example", "password2": "nina@new.example"},
        {"password2": "something else entirely"},
        {"name": ""},
    ],
)
def test_a_weak_password_makes_no_account(link, client, changed):
    assert client.post(link, NEW | changed).status_code == 422
    assert not User.objects.filter(email="nina@new.example").exists()


def test_nobody_chooses_an_address_a_role_or_a_team_of_their_own(link, client, acme):
    client.post(link, NEW | {"email": "evil@new.example", "role": "admin", "team": "x", "is_superuser": "1"})
    user = User.objects.get(email="nina@new.example")
    assert (user.is_superuser, user.is_staff) == (False, False)
    assert Membership.objects.get(user=user).role == Role.OPERATOR


def test_a_link_works_once(link, client, client_of):
    client.post(link, NEW)
    answer = client.get(link)
    assert (answer.status_code, "This link was used already" in page(answer)) == (410, True)
    assert client.post(link, NEW | {"name": "Other"}).status_code == 410
    assert User.objects.filter(email="nina@new.example").get().name == "Nina"


def test_of_two_that_follow_it_at_once_one_joins(link, rf):
    request = rf.get("/")
    request.request_id = "r"
    (first, *_), (second, *_) = (invitations.find(link.split("/")[2]) for _ in range(2))
    invitations.accept(request, first, User(email="nina@new.example"), proven=False)
    with pytest.raises(invitations.Refused):
        invitations.accept(request, second, User.objects.get(email="nina@new.example"), proven=False)
    assert Membership.objects.filter(user__email="nina@new.example").count() == 1


def test_somebody_with_an_account_signs_in_and_joins(admin, mallory, client_of, acme, client):
    invite(admin, mallory.email, "viewer")
    link = link_of(admin)
    assert f"/accounts/login/?next=%2Fjoin%2F{link.split('/')[2].replace(':', '%3A')}%2F" in page(client.get(link))
    browser = client_of(mallory)
    assert "Join Acme" in page(browser.get(link))
    assert browser.post(link)["Location"] == "/engines/"
    assert Membership.objects.get(user=mallory, team=acme).role == Role.VIEWER
    assert "Acme" in page(browser.get("/team/"))


def test_who_joined_a_second_team_switches_between_the_two(admin, mallory, client_of):
    invite(admin, mallory.email, "viewer")
    browser = client_of(mallory)
    browser.post(link_of(admin))
    assert "<h1>Acme</h1>" in page(browser.get("/team/"))
    assert 'name="team" value="mallory-inc"' in page(browser.get("/team/"))
    browser.post("/team/switch/", {"team": "mallory-inc"})
    assert "<h1>Mallory Inc</h1>" in page(browser.get("/team/"))


def test_somebody_else_s_invitation_is_not_accepted(link, mallory, client_of, acme):
    browser = client_of(mallory)
    answer = browser.post(link)
    assert (answer.status_code, "somebody else" in page(answer)) == (403, True)
    assert not Membership.objects.filter(user=mallory, team=acme).exists()


def test_looking_at_a_link_does_not_use_it(link, client):
    for _ in range(3):
        assert client.get(link).status_code == 200
    assert Invitation.objects.get().accepted_at is None


def test_after_seven_days_the_link_says_whom_to_ask(link, client):
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answer = client.get(link)
    assert (answer.status_code, "Ask Ada to send it again" in page(answer)) == (410, True)
    assert client.post(link, NEW).status_code == 410
    assert not User.objects.filter(email="nina@new.example").exists()


def test_a_link_holds_for_seven_days(link):
    left = Invitation.objects.get().expires_at - timezone.now()
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)


def test_a_revoked_link_leads_nowhere(link, admin, client):
    admin.post(f"/team/invitations/{Invitation.objects.get().pk}/revoke/")
    assert client.post(link, NEW).status_code == 410
    assert "took it back" in page(client.get(link))
    assert link_of(admin) == ""


def test_sent_again_the_new_link_works_and_the_old_one_says_so(link, admin, client):
    Invitation.objects.update(expires_at=timezone.now() - timedelta(days=1))
    admin.post(f"/team/invitations/{Invitation.objects.get().pk}/resend/")
    newer = link_of(admin)
    assert newer != link
    assert "newer link" in page(client.get(link))
    assert client.post(link, NEW).status_code == 410
    assert client.post(newer, NEW).status_code == 302


@pytest.mark.parametrize("number", ["1", "eyJ", "WzEsIm4iXQ:1vN:x", "%00", "x" * 3000])
def test_a_link_that_was_not_made_here_says_nothing(link, client, number):
    answer = client.get(f"/join/{number}/")
    assert answer.status_code == 404
    assert "nina" not in page(answer)


def test_a_link_with_another_number_in_it_is_none(link, admin, client):
    invite(admin, "second@new.example")
    token, other = link.split("/")[2], link_of(admin).split("/")[2]
    mixed = ":".join([other.split(":")[0], *token.split(":")[1:]])
    assert client.get(f"/join/{mixed}/").status_code == 404


def test_who_is_no_admin_any_more_invites_nobody(link, client, ada, acme):
    member("ann", Role.ADMIN, acme)
    Membership.objects.filter(user=ada).update(role=Role.VIEWER)
    assert "no admin of Acme any more" in page(client.get(link))
    assert client.post(link, NEW).status_code == 410


def test_who_is_in_the_team_is_not_invited(admin, olga):
    assert "is in Acme already" in page(invite(admin, "OLGA@acme.example"))
    assert Invitation.objects.count() == 0


def test_an_address_has_one_open_invitation(link, admin):
    assert "invited already" in page(invite(admin, "Nina@New.example"))
    assert Invitation.objects.count() == 1


def test_who_was_added_meanwhile_keeps_the_role(link, client_of, acme):
    nina = User.objects.create_user("nina@new.example", "correct horse battery")
    Membership.objects.create(user=nina, team=acme, role=Role.AUDITOR)
    client_of(nina).post(link)
    assert Membership.objects.get(user=nina).role == Role.AUDITOR


@pytest.mark.parametrize("sent", [{"email": "x", "role": "viewer"}, {"email": "a@b.example", "role": "root"}, {}])
def test_nonsense_invites_nobody(admin, sent):
    assert admin.post("/team/invite/", sent).status_code == 422
    assert Invitation.objects.count() == 0


def test_every_step_is_in_the_audit_log_and_no_link_is(link, admin, client):
    admin.post(f"/team/invitations/{Invitation.objects.get().pk}/resend/")
    newer = link_of(admin)
    client.post(newer, NEW)
    invite(admin, "third@new.example")
    admin.post(f"/team/invitations/{Invitation.objects.get(email='third@new.example').pk}/revoke/")
    wanted = ["invitation.made", "invitation.renewed", "invitation.revoked", "member.added"]
    entries = Entry.objects.filter(action__in=wanted)
    assert sorted(set(entries.values_list("action", flat=True))) == wanted
    joined = entries.get(action="member.added")
    assert (joined.actor_name, joined.after, joined.detail["invited_by"]) == ("Nina", {"role": "operator"}, "Ada")
    shown = str(list(Entry.objects.values()))
    assert not any(part in shown for token in (link, newer) for part in (token.split("/")[2], token.split(":")[-1]))


def test_the_link_is_mailed_where_mail_is_configured(admin, settings):
    settings.EMAIL_HOST, settings.PORTAL_URL = "mail.example", "https://portal.acme.example"
    invite(admin)
    sent = mail.outbox[0]
    assert sent.to == ["nina@new.example"]
    assert "https://portal.acme.example/join/" in sent.body


def test_no_link_in_a_mail_leads_where_a_request_says(admin, settings):
    settings.EMAIL_HOST, settings.ALLOWED_HOSTS = "mail.example", ["*"]
    admin.post("/team/invite/", {"email": "nina@new.example", "role": "viewer"}, headers={"Host": "evil.example"})
    assert mail.outbox == []


def test_a_mail_that_does_not_go_out_is_said_and_the_link_is_there(admin, settings, monkeypatch):
    settings.EMAIL_HOST, settings.PORTAL_URL = "mail.example", "http://testserver"

    def broken(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr("portal.mail.send_mail", broken)
    answer = admin.post("/team/invite/", {"email": "nina@new.example", "role": "viewer"}, follow=True)
    assert "the mail was not sent" in page(answer)
    assert link_of(admin).startswith("/join/")


@pytest.mark.parametrize("person", ["olga", "bill", "audra", "victor"])
def test_nobody_but_an_admin_invites_or_sees_links(request, link, confirmed, person):
    browser = confirmed(request.getfixturevalue(person))
    assert invite(browser, "friend@evil.example").status_code == 403
    assert "/join/" not in page(browser.get("/team/"))
    assert "nina@new.example" not in page(browser.get("/team/"))


@pytest.mark.parametrize("step", ["resend", "revoke"])
def test_another_team_s_invitation_is_not_there(link, mallory, confirmed, step):
    row = Invitation.objects.get()
    assert confirmed(mallory).post(f"/team/invitations/{row.pk}/{step}/").status_code == 404
    assert "nina" not in page(confirmed(mallory).get("/team/"))
    row.refresh_from_db()
    assert (row.revoked_at, row.accepted_at) == (None, None)


@pytest.mark.parametrize("path", ["/team/invite/", "/team/invitations/{}/resend/", "/team/invitations/{}/revoke/"])
def test_who_signed_in_long_ago_confirms_first(link, confirmed, ada, path):
    before = list(Invitation.objects.values())
    sent = {"email": "x@new.example", "role": "admin"}
    answer = confirmed(ada, ago=601).post(path.format(before[0]["id"]), sent)
    assert answer["Location"].startswith("/accounts/confirm/")
    assert list(Invitation.objects.values()) == before
