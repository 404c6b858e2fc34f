"""ASVS 8.2.1: the table of addresses and roles, every cell of it tried on rows that are there."""

import time
from copy import copy

import pytest
from django.db import transaction
from django.test import Client

from portal.accounts.access import PUBLIC, TABLE, may
from tests.security.world import CAST

METHODS = ("GET", "POST", "PUT", "DELETE")
LET_IN = {*range(200, 400), 409, 422}
ELSEWHERE = {
    ("readyz", "GET"): {503},  # there is no broker
    ("join", "GET"): {403},  # who is signed in is somebody else than the one who is invited
    ("join", "POST"): {403},
    ("csp-report", "POST"): {400},  # a form is no report
    # No provider is configured.
    ("sso-callback", "GET"): {404},
    ("sso-confirm", "POST"): {404},
    ("sso-link", "POST"): {404},
}


def browser_of(user):
    """A browser of the person, who has just signed in."""
    browser = Client(raise_request_exception=False)
    browser.force_login(user)
    session = browser.session
    session["account_authentication_methods_user"] = str(user.pk)
    session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
    session.save()
    return browser


def ask(browser, world, name, method, person, form=None):
    """Ask as that person; nothing that it changes is there for the next one."""
    cookies = copy(browser.cookies)
    with transaction.atomic():
        form = form or (world.form(name) if method == "POST" else None)
        answer = getattr(browser, method.lower())(world.url(name, person), form)
        transaction.set_rollback(True)
    browser.cookies = cookies
    return answer


@pytest.fixture
def statuses(world):
    def walk(person, method):
        """The status that each address answers this person with."""
        browser = browser_of(world.people[person])
        return {name: ask(browser, world, name, method, person).status_code for name in TABLE}

    return walk


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("person", CAST)
def test_every_cell_of_the_table_holds(statuses, person, method):
    def is_right(name, status):
        if may(CAST[person], name, method):
            return status in ELSEWHERE.get((name, method), LET_IN)
        return status == 403

    found = statuses(person, method)
    assert {name: status for name, status in found.items() if not is_right(name, status)} == {}


@pytest.mark.parametrize("method", METHODS)
def test_strangers_get_nowhere(world, method):
    def is_right(name, answer):
        if method not in TABLE[name]:
            return answer.status_code in (302, 403) or (answer.status_code, TABLE[name]) == (405, {})
        return TABLE[name][method] == PUBLIC or answer.get("Location", "").startswith("/accounts/login/")

    found = {name: ask(Client(), world, name, method, "ada") for name in TABLE}
    assert [(name, answer.status_code) for name, answer in found.items() if not is_right(name, answer)] == []
