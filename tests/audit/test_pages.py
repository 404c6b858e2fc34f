"""The audit page: newest first, filtered by its address, and never another team's."""

import pytest
from django.utils import timezone

from portal.audit.log import record
from portal.audit.models import Check

pytestmark = pytest.mark.django_db


@pytest.fixture
def log(acme, ada, olga):
    for number in range(120):
        record(
            team=acme, actor=olga if number % 2 else ada, action="session.started", target=ada, reason=f"why {number}"
        )


def shown(client, query=""):
    return [row["entry"].number for row in client.get(f"/audit/{query}").context["page"]["rows"]]


def test_it_starts_with_the_newest(log, audra, client_of):
    assert shown(client_of(audra))[0] == 120


def test_pages_lead_to_every_entry_once(log, audra, client_of):
    client, query, seen = client_of(audra), "", []
    while query is not None:
        page = client.get(f"/audit/{query}").context["page"]
        seen += [row["entry"].number for row in page["rows"]]
        query = page["next"]
    assert seen == list(range(120, 0, -1))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?actor=Olga", 50),
        ("?q=why+117", 1),
        ("?outcome=failed", 0),
        ("?since=2020-01-01T00:00&until=2020-01-02T00:00", 0),
    ],
)
def test_filters_narrow_it(log, audra, client_of, query, count):
    assert len(shown(client_of(audra), query)) == count


def test_it_counts_nothing(log, audra, client_of, django_assert_max_num_queries):
    client = client_of(audra)
    with django_assert_max_num_queries(8) as queries:
        client.get("/audit/")
    assert not [one for one in queries if "COUNT(" in one["sql"]]


def test_an_entry_page_shows_who_why_and_the_chain(log, audra, client_of):
    page = client_of(audra).get("/audit/118/").content.decode()
    assert "Olga" in page
    assert "why 117" in page


def test_another_teams_entry_is_not_there(log, mallory, client_of):
    assert client_of(mallory).get("/audit/118/").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "?cursor=x",
        "?cursor=%00",
        "?since=yesterday",
        "?since=0001-01-01T00:00%2B14:00",
        "?until=9999-12-31T23:59-14:00",
        "?outcome=none-such",
        "?q=%00",
        "?number=1;drop",
    ],
)
def test_a_bad_address_is_answered_with_a_page(log, audra, client_of, query):
    assert client_of(audra).get(f"/audit/{query}").status_code == 200


def test_a_number_that_no_database_holds_is_not_there(log, audra, client_of):
    assert client_of(audra).get(f"/audit/{10**30}/").status_code == 404


def test_one_entry_leads_to_its_neighbours(log, audra, client_of):
    context = client_of(audra).get("/audit/2/").context
    assert (context["older"], context["newer"]) == (1, 3)


def test_before_and_after_are_shown_where_they_differ(acme, ada, audra, client_of):
    record(
        team=acme,
        actor=ada,
        action="key.stored",
        target=ada,
        before={"label": "a", "role": "x"},
        after={"label": "b", "role": "x"},
    )
    assert client_of(audra).get("/audit/1/").context["changes"] == [("Label", "a", "b")]


@pytest.mark.parametrize("operation", ["not-a-uuid", "../../evil", "x" * 64])
def test_an_odd_id_in_the_log_is_text_without_a_link(acme, ada, audra, client_of, operation):
    record(team=acme, actor=ada, action="engine.drain", target=ada, operation_id=operation)
    answer = client_of(audra).get("/audit/1/")
    assert operation in answer.content.decode()
    assert answer.context["operation_url"] == ""


def test_what_people_call_things_is_shown_as_text(acme, ada, audra, client_of):
    record(team=acme, actor=ada, action="engine.drain", target=ada, reason="<img src=x onerror=alert(1)>{{7*7}}")
    for address in ("/audit/", "/audit/1/"):
        page = client_of(audra).get(address).content.decode()
        assert "&lt;img src=x onerror=alert(1)&gt;{{7*7}}" in page


def test_a_cursor_of_another_team_is_no_good_here(log, audra, mallory, other_team, client_of):
    cursor = client_of(audra).get("/audit/").context["page"]["next"]
    assert client_of(mallory).get(f"/audit/{cursor}").context["bad_cursor"]


def test_the_table_comes_alone_for_a_fragment(log, audra, client_of):
    answer = client_of(audra).get("/audit/?q=why+7", headers={"HX-Request": "true", "HX-Target": "audit"})
    page = answer.content.decode()
    assert page.lstrip().startswith('<div id="audit" hx-get="/audit/?q=why+7"')
    assert "HX-Request" in answer["Vary"]


def test_filters_in_use_can_be_taken_off_one_by_one(log, audra, client_of):
    chips = client_of(audra).get("/audit/?actor=olga&outcome=ok").context["chips"]
    assert [chip["url"] for chip in chips] == ["?outcome=ok", "?actor=olga"]


def test_a_broken_chain_is_said_on_top(log, acme, audra, client_of):
    Check.objects.create(team=acme, at=timezone.now(), number=7, fault="was changed after it was written")
    page = client_of(audra).get("/audit/").content.decode()
    assert "The chain is broken at #7" in page
    assert "was changed after it was written" in page


def test_a_whole_chain_is_said_below(log, acme, audra, client_of):
    Check.objects.create(team=acme, at=timezone.now(), complete_at=timezone.now())
    page = client_of(audra).get("/audit/").content.decode()
    assert "whole." in page
    assert "The chain is broken" not in page


def test_fields_inside_fields_are_compared_one_by_one(acme, ada, audra, client_of):
    before, after = {"limits": {"day": 5, "on": True}}, {"limits": {"day": 7, "on": True}, "who": ["a", "b"]}
    record(team=acme, actor=ada, action="key.stored", target=ada, before=before, after=after)
    changes = client_of(audra).get("/audit/1/").context["changes"]
    assert changes == [("Limits: day", "5", "7"), ("Who", "", "a, b")]
