"""What holds for every address of the portal: headers, a request id, and that reading changes nothing."""

import re
from collections import defaultdict

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client

from portal.accounts.access import TABLE
from tests.security.test_roles import browser_of
from tests.security.world import CAST

pytestmark = pytest.mark.django_db
LEFT_ALONE = {"sessions.Session"}  # Django's own: a page may have a message to keep
NO_ROWS = ("django_session", '"cache"')  # the same, and the counts of how often somebody asks
SHOWS_ONCE = "mfa_view_recovery_codes"  # that the codes have been seen is written down


@pytest.fixture(params=["anonymous", *CAST])
def person(request):
    return request.param


@pytest.fixture
def browser(world, person):
    return Client() if person == "anonymous" else browser_of(world.people[person])


def url_of(world, name, person):
    return world.url(name, "ada" if person == "anonymous" else person)


def lacks(headers):
    """The headers that are not as they must be."""
    policy = headers.get("Content-Security-Policy", "")
    right = {
        "Content-Security-Policy": "script-src 'self';" in policy and "frame-ancestors 'none'" in policy,
        "no unsafe": "unsafe" not in policy,
        "X-Content-Type-Options": headers.get("X-Content-Type-Options") == "nosniff",
        "Referrer-Policy": headers.get("Referrer-Policy") == "same-origin",
        "Cache-Control": "no-store" in headers.get("Cache-Control", ""),
        "X-Request-ID": re.fullmatch(r"[0-9a-f]{32}", headers.get("X-Request-ID", "")),
    }
    return [name for name, holds in right.items() if not holds]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_answer_carries_the_headers(world, browser, person, method):
    found = {}
    for name in TABLE:
        with transaction.atomic():
            found[name] = lacks(browser.generic(method, url_of(world, name, person)).headers)
            transaction.set_rollback(True)
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_no_page_has_scripts_or_styles_inside(world, browser, person):
    inside = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:")
    answers = {name: browser.get(url_of(world, name, person), follow=True) for name in TABLE if name != "live"}
    found = {name: inside.findall(answer.content.decode()) for name, answer in answers.items()}
    assert {name: words for name, words in found.items() if words} == {}


def test_reading_changes_nothing(world, foreign, browser, person):
    world.freeze()
    before = everything()
    assert wrote(world, browser, person, "GET") == {}
    assert everything() == before


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_nor_does_asking_about_it(world, foreign, method):
    browser = browser_of(world.people["ada"])
    before = everything()
    assert wrote(world, browser, "ada", method) == {}
    assert everything() == before


def wrote(world, browser, person, method):
    """What each address has written to the database, as SQL."""
    written = defaultdict(list)

    def watch(execute, sql, params, many, context):
        if re.match(r"(?i)\s*(INSERT|UPDATE|DELETE|REPLACE)", sql) and not any(table in sql for table in NO_ROWS):
            written[name].append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        for name in TABLE.keys() - {SHOWS_ONCE}:
            browser.generic(method, url_of(world, name, person))
    return written


def everything():
    """Every row of the portal's tables."""
    models = [model for model in apps.get_models() if model._meta.label not in LEFT_ALONE]
    models = [model for model in models if model._meta.app_label != "controlplane"]
    return {model._meta.label: list(model._base_manager.order_by("pk").values_list()) for model in models}


@pytest.mark.parametrize("sent", ["abc-1.2_3", "A" * 64])
def test_a_sane_request_id_is_kept(client, sent):
    assert client.get("/healthz", headers={"X-Request-ID": sent})["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "A" * 65, "a b", "é", "a\x1b[31m", "<script>"])
def test_an_odd_request_id_is_replaced(client, sent):
    assert re.fullmatch(r"[0-9a-f]{32}", client.get("/healthz", headers={"X-Request-ID": sent})["X-Request-ID"])
