"""Changing who is in a team: by admins who have just confirmed themselves, never down to no admin, always audited."""

import threading

import pytest
from django.db import connection

from portal.accounts.models import Membership
from portal.accounts.roles import Role
from portal.audit.models import Entry
from portal.live.viewers import Viewer, _still_allowed
from tests.conftest import member

pytestmark = pytest.mark.django_db


def of(user):
    return Membership.objects.get(user=user)


def change(client, user, role):
    return client.post(f"/team/members/{of(user).pk}/role/", {"role": role})


def remove(client, user):
    return client.post(f"/team/members/{of(user).pk}/remove/")


def test_an_admin_changes_a_role(confirmed, ada, olga):
    change(confirmed(ada), olga, "viewer")
    assert of(olga).role == Role.VIEWER


def test_a_changed_role_is_audited(confirmed, ada, olga):
    change(confirmed(ada), olga, "viewer")
    entry = Entry.objects.get(action="member.changed")
    assert (entry.actor, entry.target_id, entry.before, entry.after) == (
        ada,
        str(olga.pk),
        {"role": "operator"},
        {"role": "viewer"},
    )


def test_the_same_role_again_is_no_change(confirmed, ada, olga):
    change(confirmed(ada), olga, "operator")
    assert not Entry.objects.filter(action="member.changed").exists()


@pytest.mark.parametrize("role", ["", "root", "admin\0"])
def test_a_role_that_does_not_exist_is_given_to_nobody(confirmed, ada, olga, role):
    assert change(confirmed(ada), olga, role).status_code == 422
    assert of(olga).role == Role.OPERATOR


def test_a_removed_member_is_out_at_the_next_request(confirmed, client_of, ada, olga):
    browser = client_of(olga)
    assert browser.get("/engines/").status_code == 200
    remove(confirmed(ada), olga)
    assert browser.get("/engines/").status_code == 403


def test_a_removed_member_s_stream_is_not_allowed_any_more(confirmed, client_of, ada, olga, acme, monkeypatch):
    monkeypatch.setattr("portal.live.viewers.connections.close_all", lambda: None)  # the test's own connection
    viewer = Viewer(client_of(olga).session.session_key, olga.pk, olga.get_session_auth_hash(), acme.pk, Role.OPERATOR)
    assert _still_allowed([viewer]) == {viewer}
    remove(confirmed(ada), olga)
    assert _still_allowed([viewer]) == set()


def test_a_removal_is_audited(confirmed, ada, olga):
    remove(confirmed(ada), olga)
    entry = Entry.objects.get(action="member.removed")
    assert (entry.actor, entry.target_name, entry.before) == (ada, "Olga", {"role": "operator"})


def test_the_last_admin_cannot_be_removed(confirmed, ada):
    answer = confirmed(ada).post(f"/team/members/{of(ada).pk}/remove/", follow=True)
    assert of(ada).role == Role.ADMIN
    assert "last admin" in answer.content.decode()


def test_the_last_admin_cannot_be_demoted(confirmed, ada):
    change(confirmed(ada), ada, "viewer")
    assert of(ada).role == Role.ADMIN


def test_an_admin_who_is_switched_off_does_not_count(confirmed, ada, acme):
    other = member("ann", Role.ADMIN, acme)
    other.is_active = False
    other.save()
    change(confirmed(ada), ada, "viewer")
    assert of(ada).role == Role.ADMIN


def test_one_of_two_admins_can_go(confirmed, ada, acme):
    member("ann", Role.ADMIN, acme)
    change(confirmed(ada), ada, "viewer")
    assert of(ada).role == Role.VIEWER


@pytest.mark.django_db(transaction=True)
def test_of_two_admins_who_remove_each_other_at_once_one_is_left(confirmed, ada, acme):
    ann = member("ann", Role.ADMIN, acme)
    together = threading.Barrier(2)

    def race(browser, address):
        together.wait(20)
        browser.post(address)
        connection.close()

    sides = [(confirmed(ada), ann), (confirmed(ann), ada)]
    jobs = [(browser, f"/team/members/{of(other).pk}/remove/") for browser, other in sides]
    threads = [threading.Thread(target=race, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert Membership.objects.filter(team=acme, role=Role.ADMIN).count() == 1


@pytest.mark.parametrize("what", ["", "role/", "remove/"])
def test_a_member_of_another_team_is_not_found(confirmed, ada, mallory, what):
    address = f"/team/members/{of(mallory).pk}/{what}"
    browser = confirmed(ada)
    answer = browser.post(address, {"role": "viewer"}) if what else browser.get(address)
    assert answer.status_code == 404
    assert of(mallory).role == Role.ADMIN


@pytest.mark.parametrize("person", ["olga", "bill", "audra", "victor"])
def test_nobody_else_makes_himself_an_admin(request, confirmed, ada, person):
    user = request.getfixturevalue(person)
    assert change(confirmed(user), user, "admin").status_code == 403
    assert of(user).role != Role.ADMIN


def test_who_may_not_change_members_reads_why(client_of, victor):
    page = client_of(victor).get("/team/").content.decode()
    assert "Only an Admin" in page
    assert "/team/members/" not in page


def test_an_admin_sees_the_member_s_page(confirmed, ada, olga):
    page = confirmed(ada).get(f"/team/members/{of(olga).pk}/").content.decode()
    assert '<option value="operator" selected>' in page


def test_who_signed_in_long_ago_confirms_first(confirmed, ada, olga):
    answer = change(confirmed(ada, ago=601), olga, "viewer")
    assert answer["Location"] == "/accounts/confirm/?next=%2F"
    assert of(olga).role == Role.OPERATOR


def test_ten_minutes_are_recent(confirmed, ada, olga):
    change(confirmed(ada, ago=590), olga, "viewer")
    assert of(olga).role == Role.VIEWER


def test_a_record_from_the_future_confirms_nothing(confirmed, ada, olga):
    change(confirmed(ada, ago=-100), olga, "viewer")
    assert of(olga).role == Role.OPERATOR


def test_a_dialog_is_led_to_confirm_and_back_to_its_page(confirmed, ada, olga):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/team/?q=1"}
    answer = confirmed(ada, ago=601).post(f"/team/members/{of(olga).pk}/remove/", headers=headers)
    assert answer["HX-Redirect"] == "/accounts/confirm/?next=%2Fteam%2F%3Fq%3D1"


@pytest.mark.parametrize(("referer", "back"), [("http://testserver/team/", "%2Fteam%2F"), ("https://evil/x", "%2F")])
def test_a_form_is_led_back_to_its_own_page_alone(confirmed, ada, olga, referer, back):
    address = f"/team/members/{of(olga).pk}/remove/"
    answer = confirmed(ada, ago=601).post(address, headers={"Referer": referer})
    assert answer["Location"] == f"/accounts/confirm/?next={back}"


def test_the_right_password_confirms_and_leads_back(confirmed, ada, olga):
    browser = confirmed(ada, ago=601)
    page = f"/team/members/{of(olga).pk}/"
    answer = browser.post("/accounts/confirm/", {"password": "correct horse battery", "next": page})
    assert answer["Location"] == page
    assert browser.get(page).status_code == 200


def test_a_wrong_password_confirms_nothing(confirmed, ada, olga):
    browser = confirmed(ada, ago=601)
    browser.post("/accounts/confirm/", {"password": "wrong wrong wrong"})
    assert browser.get(f"/team/members/{of(olga).pk}/").status_code == 302


def test_confirming_leads_to_no_other_site(confirmed, ada):
    sent = {"password": "correct horse battery", "next": "https://evil.example/"}
    assert confirmed(ada, ago=601).post("/accounts/confirm/", sent)["Location"] == "/engines/"
