"""Changing one's password: only with the old one, never to a weak one, and other sessions end."""

import pytest
from django.test import Client

from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
OLD, NEW = "correct horse battery", "seventeen purple kettles"


def change(browser, new=NEW, old=OLD):
    return browser.post("/accounts/password/", {"oldpassword": old, "password1": new, "password2": new})


def test_the_new_password_holds(client_of, olga):
    assert change(client_of(olga))["Location"] == "/accounts/"
    olga.refresh_from_db()
    assert olga.check_password(NEW)


def test_the_page_asks_for_the_old_one(client_of, olga):
    assert 'name="oldpassword"' in client_of(olga).get("/accounts/password/").content.decode()


def test_nobody_changes_it_without_the_old_one(client_of, olga):
    change(client_of(olga), old="wrong wrong wrong")
    olga.refresh_from_db()
    assert olga.check_password(OLD)


@pytest.mark.parametrize("weak", ["short", "eleven-char", "q1w2e3r4t5y6", "olga@acme.example"])
def test_a_weak_one_is_refused(client_of, olga, weak):
    change(client_of(olga), weak)
    olga.refresh_from_db()
    assert olga.check_password(OLD)


def test_letters_alone_are_enough_if_they_are_many(client_of, olga):
    change(client_of(olga), "kettlesandlanterns")
    olga.refresh_from_db()
    assert olga.check_password("kettlesandlanterns")


def test_other_sessions_end_and_this_one_goes_on(client_of, olga):
    here, elsewhere = client_of(olga), client_of(olga)
    change(here)
    assert here.get("/engines/").status_code == 200
    assert elsewhere.get("/engines/")["Location"].startswith("/accounts/login/")


def test_the_change_is_audited_without_the_words(client_of, olga):
    change(client_of(olga))
    entry = Entry.objects.get(action="person.password")
    assert (entry.actor, entry.before, entry.after, entry.detail) == (olga, {}, {}, {})


def test_strangers_are_sent_to_sign_in(olga):
    assert change(Client())["Location"].startswith("/accounts/login/")
