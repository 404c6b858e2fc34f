"""ASVS 2.4.1: nobody asks so often that others wait, and whoever does is told when to go on."""

import pytest

from portal import rates, reports
from portal.accounts.models import Membership
from portal.accounts.roles import Role
from portal.counting import Memory


@pytest.fixture(autouse=True)
def few(settings):
    settings.PORTAL_RATES = {"read": "4/minute", "write": "2/minute", "export": "1/minute"}
    settings.TEAM_RATE_FACTOR = 2


def statuses(browser, times, path="/team/"):
    return [browser.get(path).status_code for _ in range(times)]


def test_a_person_s_minute_is_used_up(client_of, victor):
    browser = client_of(victor)
    assert statuses(browser, 5) == [200, 200, 200, 200, 429]
    assert 1 <= int(browser.get("/team/")["Retry-After"]) <= 60


def test_changes_are_counted_apart_and_more_strictly(client_of, ada):
    browser = client_of(ada)
    assert statuses(browser, 5)[-1] == 429
    assert [browser.post("/keys/").status_code == 429 for _ in range(3)] == [False, False, True]


def test_exports_are_counted_apart(client_of, audra):
    browser = client_of(audra)
    assert [browser.post("/audit/export/", {"format": "csv"}).status_code for _ in range(2)] == [200, 429]


def test_others_of_the_team_go_on(client_of, victor, ada):
    assert statuses(client_of(victor), 5)[-1] == 429
    assert statuses(client_of(ada), 4) == [200] * 4


def test_a_team_as_a_whole_is_bounded_too(client_of, victor, ada, olga):
    seen = [*statuses(client_of(victor), 4), *statuses(client_of(ada), 4), *statuses(client_of(olga), 1)]
    assert seen == [200] * 8 + [429]


def test_another_team_is_not_touched_by_that(client_of, victor, mallory):
    assert statuses(client_of(victor), 5)[-1] == 429
    assert statuses(client_of(mallory), 4) == [200] * 4


def test_a_person_of_two_teams_has_one_count(client_of, victor, other_team):
    Membership.objects.create(user=victor, team=other_team, role=Role.VIEWER)
    browser = client_of(victor)
    assert statuses(browser, 4) == [200] * 4
    browser.post("/team/switch/", {"team": other_team.slug})
    assert statuses(browser, 1) == [429]


def test_health_checks_are_not_counted(client, db):
    assert {client.get("/healthz").status_code for _ in range(10)} == {200}


def test_requests_of_two_threads_are_counted_by_what_can_count_two_at_once():
    assert isinstance(rates.limiter.storage, Memory)
    assert isinstance(reports.logged.storage, Memory)
