"""The audit page: newest first, filtered by its address, and never another team's."""

import pytest

from portal.audit.log import record

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


@pytest.mark.parametrize("query", ["?cursor=x", "?since=yesterday", "?outcome=none-such", "?q=%00"])
def test_a_bad_address_is_answered_with_a_page(log, audra, client_of, query):
    assert client_of(audra).get(f"/audit/{query}").status_code == 200
