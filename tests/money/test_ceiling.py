"""Billing changes limits up to the ceiling that an admin sets; the server holds it, whatever the page sends."""

import re

import pytest

from engines.money import limits
from engines.money.forms import LimitsForm
from portal.audit.models import Entry

pytestmark = pytest.mark.django_db


def given(**changes):
    shown = {name: str(value) for name, value in LimitsForm.showing(limits.Limits()).initial.items()}
    return {"reason": "a new budget"} | shown | changes


def set_limits(client, **changes):
    return client.post("/cloud-time/limits/", given(**changes), follow=True).content.decode()


def set_ceiling(client, **changes):
    return client.post("/cloud-time/ceiling/", given(**changes), follow=True).content.decode()


def team_day(team):
    return limits.limits_of(team).team_day // 10**8


def test_billing_raises_a_limit_up_to_the_ceiling(acme, ada, bill, client_of):
    set_ceiling(client_of(ada), team_day="2000")
    set_limits(client_of(bill), team_day="2000")
    assert team_day(acme) == 2000
    assert Entry.objects.get(action="cloudtime.limits").actor == bill


def test_a_ceiling_is_set_by_who_proved_anew_who_they_are(acme, ada, confirmed):
    set_ceiling(confirmed(ada, ago=601), team_day="2000")
    assert limits.ceiling_of(acme) is None


@pytest.mark.parametrize("name", LimitsForm.AMOUNTS)
def test_billing_raises_no_limit_above_the_ceiling(acme, ada, bill, client_of, name):
    set_ceiling(client_of(ada))
    before = vars(limits.limits_of(acme)).copy()
    assert "An Admin sets the ceiling" in set_limits(client_of(bill), **{name: "20000"})
    after = vars(limits.limits_of(acme))
    assert {key: after[key] for key in LimitsForm.AMOUNTS} == {key: before[key] for key in LimitsForm.AMOUNTS}


def test_without_a_ceiling_billing_lowers_limits_and_raises_none(acme, bill, client_of):
    browser = client_of(bill)
    assert "You may set them lower, and none higher" in browser.get("/cloud-time/limits/").content.decode()
    set_limits(browser, team_day="1000.01")
    assert team_day(acme) == 1000
    set_limits(browser, team_day="900")
    assert team_day(acme) == 900


def test_a_limit_above_the_ceiling_may_stay_and_not_grow(acme, ada, bill, client_of):
    set_ceiling(client_of(ada), team_day="500")
    set_limits(client_of(bill), team_day="1000", user_day="100")
    assert (team_day(acme), limits.limits_of(acme).user_day) == (1000, 100 * 10**8)
    assert "An Admin sets the ceiling" in set_limits(client_of(bill), team_day="1001")


def test_a_form_of_before_does_not_raise_what_was_lowered_since(acme, ada, bill, client_of):
    page = client_of(ada).get("/cloud-time/limits/").content.decode()
    seen = re.search(r'name="seen" value="([^"]+)"', page).group(1)
    set_limits(client_of(bill), team_day="10")
    assert "Somebody has changed them" in set_limits(client_of(ada), seen=seen, operation_hours="24")
    assert team_day(acme) == 10


def test_a_form_that_is_sent_twice_is_saved(acme, ada, client_of):
    page = client_of(ada).get("/cloud-time/limits/").content.decode()
    form = {"seen": re.search(r'name="seen" value="([^"]+)"', page).group(1), "team_day": "10"}
    for _ in range(2):
        assert "Saved." in set_limits(client_of(ada), **form)
    assert team_day(acme) == 10


def test_no_ceiling_holds_an_admin(acme, ada, client_of):
    set_ceiling(client_of(ada), team_day="500")
    set_limits(client_of(ada), team_day="5000")
    assert team_day(acme) == 5000


def test_nobody_but_an_admin_sets_the_ceiling(acme, bill, client_of):
    assert client_of(bill).post("/cloud-time/ceiling/", given()).status_code == 403
    assert limits.ceiling_of(acme) is None
    assert "/cloud-time/ceiling/" not in client_of(bill).get("/cloud-time/").content.decode()


def test_the_ceiling_is_audited(ada, client_of):
    set_ceiling(client_of(ada), team_day="500")
    entry = Entry.objects.get(action="cloudtime.ceiling")
    assert (entry.before, entry.after["team_day"]) == ({}, "500.00")


def test_one_team_s_ceiling_is_not_another_s(acme, ada, mallory, other_team, client_of):
    set_ceiling(client_of(mallory), team_day="99000")
    assert limits.ceiling_of(acme) is None
    assert limits.ceiling_of(other_team).team_day == 99_000 * 10**8
