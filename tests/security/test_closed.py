"""ASVS 16.3.2, 16.5.2, 16.5.3: what fails, fails closed; and whoever is refused is in the log."""

import logging

import pytest
from django.db import OperationalError

from portal.accounts.models import Membership
from tests.security.test_every_address import everything
from tests.security.test_roles import browser_of


def away(*_, **__):
    raise OperationalError("the database is away")


@pytest.mark.parametrize("name", ["engine-stop", "cloud-time-freeze", "member-role", "key-revoke", "audit-export"])
def test_nothing_is_allowed_by_a_database_that_is_away(world, monkeypatch, name):
    """The role cannot be read: nobody has one."""
    browser, before = browser_of(world.people["ada"]), everything()
    url, form = world.url(name), world.form(name)
    with monkeypatch.context() as patch:
        patch.setattr(Membership.objects, "filter", away)
        assert browser.post(url, form).status_code == 500
    assert everything() == before


@pytest.mark.parametrize("name", ["cloud-time-freeze", "member-role", "cloud-time-limits", "audit-export"])
def test_nothing_is_done_that_cannot_be_written_down(world, monkeypatch, name):
    browser, before = browser_of(world.people["ada"]), everything()
    url, form = world.url(name), world.form(name)
    with monkeypatch.context() as patch:
        patch.setattr("portal.audit.log.record_all", away)
        browser.post(url, form)
    after = everything()
    assert {kind for kind in after if after[kind] != before[kind]} == set()


def test_a_refusal_is_logged(world, caplog):
    with caplog.at_level(logging.WARNING, "portal.accounts.middleware"):
        browser_of(world.people["victor"]).post(world.url("engine-stop"))
    assert f"refused POST /engines/{world.uid}/stop/" in caplog.text
    assert f"{world.people['victor'].pk} (viewer)" in caplog.text
