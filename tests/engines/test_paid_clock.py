"""A drain knows the paid clock: what may outlast the machine's paid time says so, and never buys time by itself."""

import re
from datetime import datetime, timedelta

import pytest

from engines.bulk import plan
from engines.enums import Verb
from engines.models import Engine, Extension, Operation
from portal import clock
from portal.accounts.models import Membership
from portal.vault.keys import Secret, store
from tests.engines.conftest import NOW, dto, put, read

pytestmark = pytest.mark.django_db
FIRST = "Its paid time may end first"


@pytest.fixture
def paid(acme_connection):
    """Have the engine read as a rented one whose paid time ends in so many hours."""

    def _paid(hours, **changes):
        at = clock.now()
        ends = (at + timedelta(hours=hours)).isoformat()
        price = changes.pop("price", 250)
        machine = {"cloud": "local", "status": "active", "hourly_price": price, "auto_delete": {"date_threshold": ends}}
        read(acme_connection, dto(**{"busy": ["task_1"], "instance": machine, **changes}), at=at)
        return Engine.objects.get()

    return _paid


@pytest.fixture
def olgas(olga, olgas_key, client_of):
    return client_of(olga)


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def form(page, **more):
    html = page.content.decode()
    told = {"told": "paid time"} if 'name="told"' in html else {}
    ticket = re.search(r'name="ticket" value="([^"]+)"', html)[1]
    return {"reason": "patch", "deadline": "2", "version": "stable", "ticket": ticket, **told, **more}


@pytest.mark.parametrize("verb", ["drain", "update"])
@pytest.mark.parametrize(
    ("hours", "changes", "said"),
    [
        (1.5, {}, True),  # its deadline is in 2 hours
        (0.5, {}, True),
        (1.5, {"price": None}, True),  # it ends, whatever it costs
        (5, {}, False),
        (1.5, {"busy": []}, False),  # nothing to finish
        (1.5, {"instance": None}, False),
    ],
)
def test_the_dialog_says_that_the_paid_time_may_end_first(olgas, paid, verb, hours, changes, said):
    paid(hours, **changes)
    assert (FIRST in words(olgas.get(f"/engines/eng_1/{verb}/"))) is said


def test_who_may_not_extend_is_told_whom_to_ask(olgas, paid, ada, bill, victor):
    paid(1.5)
    assert "Ask Bill or Ada to extend it." in words(olgas.get("/engines/eng_1/drain/"))


def test_a_team_in_which_nobody_may_extend_says_so(olgas, paid, acme, ada, bill):
    paid(1.5)
    Membership.objects.filter(team=acme, role__in=["admin", "billing"]).delete()
    assert "Nobody in the team may extend it." in words(olgas.get("/engines/eng_1/drain/"))


def test_who_may_extend_gets_the_link(client_of, ada, acme_connection, paid):
    paid(1.5)
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    page = client_of(ada).get("/engines/eng_1/drain/")
    assert 'href="/engines/eng_1/extend/"' in page.content.decode()
    assert "Extend it first" in words(page)


def test_a_longer_deadline_than_the_paid_time_is_said_before_it_is_asked(olgas, paid):
    paid(5)
    sent = form(olgas.get("/engines/eng_1/drain/"), deadline="6")
    answer = olgas.post("/engines/eng_1/drain/", sent)
    assert (answer.status_code, Operation.objects.count()) == (409, 0)
    assert FIRST in words(answer)
    assert olgas.post("/engines/eng_1/drain/", form(answer, deadline="6")).status_code == 302


def test_who_was_told_drains_with_one_click_and_nothing_is_bought(olgas, paid):
    paid(0.5)
    assert olgas.post("/engines/eng_1/drain/", form(olgas.get("/engines/eng_1/drain/"))).status_code == 302
    assert Extension.objects.count() == 0


@pytest.mark.parametrize(("hours", "tone"), [(0.5, "tone-bad"), (5, "tone-wait"), (20, "tone-info"), (30, None)])
@pytest.mark.parametrize("page", ["/engines/eng_1/", "operation"])
def test_a_drain_under_way_warns_as_its_paid_time_comes_near(operation, olgas, paid, hours, tone, page):
    put(operation, "working", deadline_at=clock.now() + timedelta(hours=2))
    paid(hours, status="draining")
    shown = olgas.get(f"/operations/{operation.pk}/" if page == "operation" else page).content.decode()
    assert (FIRST in shown) is (tone is not None)
    assert not tone or f'<div class="note {tone}"' in shown


def test_a_drain_that_has_ended_warns_no_more(operation, olgas, paid):
    paid(0.5, status="stopped", busy=[])
    put(operation, "succeeded", finished_at=clock.now())
    assert FIRST not in words(olgas.get(f"/operations/{operation.pk}/"))


@pytest.fixture
def fleet(acme_connection):
    """Three rented engines with a task each, paid for 1.5, 5 and 30 hours, and one on a host of the team's own."""
    at = clock.now()
    machine = {"cloud": "local", "status": "active", "hourly_price": 250}
    ends = [(at + timedelta(hours=hours)).isoformat() for hours in (1.5, 5, 30)]
    paid = [machine | {"auto_delete": {"date_threshold": end}} for end in ends]
    rows = [dto(uid=f"eng_{n}", name=f"rented-{n}", busy=["t"], instance=one) for n, one in enumerate(paid)]
    read(acme_connection, *rows, dto(uid="eng_own", name="own", busy=["t"]), at=at)


MANY = "/engines/many/{}/?all=1"
MAY_END = "The paid time of 1 engine may end first."


@pytest.mark.parametrize("verb", ["drain", "update"])
def test_many_are_told_which_machines_paid_time_may_end_first(olgas, fleet, bill, verb):
    shown = words(olgas.get(MANY.format(verb)))
    assert MAY_END in shown
    assert "rented-0: until 2026-11-23 13:30 UTC, " in shown
    assert "rented-1: " not in shown
    assert "Ask Bill to extend it." in shown


def test_who_may_extend_many_gets_one_link_for_them(client_of, ada, acme_connection, fleet):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    browser = client_of(ada)
    page = browser.get(MANY.format("drain")).content.decode()
    assert 'id="extend-first" href="/engines/many/extend/?uid=eng_0"' in page
    assert "rented-0" in words(browser.get("/engines/many/extend/?uid=eng_0"))


def test_the_link_for_many_has_no_more_than_are_extended_at_once(client_of, ada, acme_connection, fleet, monkeypatch):
    monkeypatch.setattr("engines.operations.extend.Extend.most", 1)
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    browser, path = client_of(ada), MANY.format("drain")
    page = browser.post(path, form(browser.get(path), deadline="6", despite="on"))
    assert "The paid time of 2 engines may end first." in words(page)
    assert 'href="/engines/many/extend/?uid=eng_0"' in page.content.decode()


def test_a_longer_deadline_of_many_is_said_before_it_is_asked(olgas, fleet):
    path = MANY.format("drain")
    sent = form(olgas.get(path), deadline="6", despite="on") | {"told": "2"}
    answer = olgas.post(path, sent)
    assert (answer.status_code, Operation.objects.count()) == (409, 0)
    assert "The paid time of 2 engines may end first." in words(answer)
    again = sent | {"told": re.search(r'name="told" value="(\d+)"', answer.content.decode())[1]}
    assert olgas.post(path, again).status_code == 302
    assert (Operation.objects.count(), Extension.objects.count()) == (4, 0)


def moved(engine, by):
    """Have the engine's machine be paid for so much longer, or less."""
    ends = engine.wire["instance"]["auto_delete"]
    ends["date_threshold"] = (datetime.fromisoformat(ends["date_threshold"]) + by).isoformat()
    engine.save()


@pytest.mark.parametrize("by", [timedelta(minutes=-30), timedelta(hours=24)])
@pytest.mark.parametrize("verb", ["drain", "update"])
def test_paid_time_that_moved_since_many_were_shown_is_told(olgas, fleet, verb, by):
    path = MANY.format(verb)
    shown = form(olgas.get(path), despite="on", pace="all") | {"told": "2"}
    moved(Engine.objects.get(uid="eng_1"), by)
    answer = olgas.post(path, shown)
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    was = f"running and paid until {NOW + timedelta(hours=5):%Y-%m-%d %H:%M:%S} UTC"
    now = f"running and paid until {NOW + timedelta(hours=5) + by:%Y-%m-%d %H:%M:%S} UTC"
    assert f"rented-1 was {was}; it is {now} now." in words(answer)


def test_paid_time_that_moved_since_the_dialog_of_an_update_is_told(olgas, paid):
    engine = paid(5)
    shown = form(olgas.get("/engines/eng_1/update/"))
    moved(engine, timedelta(minutes=-30))
    answer = olgas.post("/engines/eng_1/update/", shown)
    assert (answer.status_code, Operation.objects.count()) == (409, 0)
    assert "It was paid until 2026-11-23 17:00 UTC" in words(answer)


def test_of_many_readings_only_the_paid_time_is_loaded(fleet, acme, olga):
    rows = Engine.objects.of(acme)
    made = plan(Verb.DRAIN, rows, team=acme, user=olga, role="operator")
    assert all("wire" in engine.get_deferred_fields() for engine in made.will)
    assert set(made.ends) == set(rows.exclude(cloud="").values_list("pk", flat=True))
