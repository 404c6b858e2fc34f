"""The update dialog offers the releases that the API lists, and a free text where it lists none."""

import html
import re

import pytest

from engines.models import Operation

pytestmark = pytest.mark.django_db
URL = "/engines/eng_1/update/"


@pytest.fixture
def browser(api, engine, olgas_key, client_of, olga):
    api.releases = {
        "stable": {"version": "v1.0.0", "release_date": "2026-11-01T00:00:00Z"},
        "canary": {"version": "v1.1.0-canary.1", "release_date": ""},
    }
    return client_of(olga)


def offered(page):
    text = html.unescape(page.content.decode())
    return dict(re.findall(r'<option value="([^"]+)"[^>]*>([^<]+)</option>', text.partition('name="deadline"')[0]))


def confirm(browser, **fields):
    ticket = re.search(r'name="ticket" value="([^"]+)"', browser.get(URL).content.decode()).group(1)
    return browser.post(URL, {"reason": "new models", "deadline": "2", "ticket": ticket, **fields})


def test_it_offers_both_channels_and_their_tags_and_says_what_runs(browser):
    page = browser.get(URL)
    assert offered(page) == {
        "stable": "stable: v1.0.0, which it runs now",
        "canary": "canary: v1.1.0-canary.1",
        "v1.0.0": "v1.0.0, which it runs now, and pin it to that",
        "v1.1.0-canary.1": "v1.1.0-canary.1, and pin it to that",
    }
    assert "It runs v1.0.0 now." in page.content.decode()


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ({"version": "canary"}, "canary"),
        ({"version": "v1.1.0-canary.1"}, "v1.1.0-canary.1"),
        ({"version": "stable", "tag": "v0.9.0"}, "v0.9.0"),
    ],
)
def test_what_is_chosen_is_asked_for(browser, fields, version):
    assert confirm(browser, **fields).status_code == 302
    assert Operation.objects.get().parameters["version"] == version


def test_a_tag_that_is_none_is_refused_and_the_choices_stay(browser):
    page = confirm(browser, version="canary", tag="newest")
    assert (page.status_code, Operation.objects.count()) == (422, 0)
    assert "canary" in offered(page)
    assert "Enter a tag such as v1.9.3." in page.content.decode()


@pytest.mark.parametrize("listed", [None, {}, {"stable": None}, {"stable": "v1.0.0"}, {"nightly": {"version": "v2"}}])
def test_where_the_api_lists_none_it_is_typed(browser, api, listed):
    api.releases = listed
    page = browser.get(URL)
    assert offered(page) == {}
    assert 'name="tag"' not in page.content.decode()
    assert confirm(browser, version="v2.0.0").status_code == 302


def test_an_api_that_does_not_answer_leaves_the_free_text(browser, api):
    api.trouble["GET /engines/releases"] = "reset"
    assert offered(browser.get(URL)) == {}


def test_what_was_typed_before_the_list_was_there_is_kept(browser, api):
    page = browser.post(URL, {"version": "v3.0.0", "deadline": "2", "ticket": "old"})
    assert 'value="v3.0.0"' in page.content.decode()
    assert 'name="tag"' not in page.content.decode()
