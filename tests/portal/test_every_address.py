"""What holds for every address of the portal: headers, a request id, and that reading changes nothing."""

import re

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse

from engines.models import Engine
from portal.audit.log import record
from tests.accounts.test_access import ARGUMENTS, patterns

pytestmark = pytest.mark.django_db
NAMES = sorted({entry.name for entry in patterns()} - {"live"})
SIGNING = {"account_login", "account_logout"}
LEFT_ALONE = {"sessions.Session"}  # Django's own: a page may have a message to keep


def url_of(name):
    wanted = next(entry for entry in patterns() if entry.name == name).pattern.converters
    return reverse(name, kwargs={key: ARGUMENTS[key] for key in wanted})


@pytest.fixture(params=["anonymous", "ada", "audra", "victor"])
def browser(request, client_of):
    return Client() if request.param == "anonymous" else client_of(request.getfixturevalue(request.param))


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
def test_every_answer_carries_the_headers(browser, method):
    found = {name: lacks(browser.generic(method, url_of(name)).headers) for name in NAMES}
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_no_page_has_scripts_or_styles_inside(browser):
    inside = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:")
    pages = {name: browser.get(url_of(name), follow=True).content.decode() for name in NAMES if name not in SIGNING}
    assert {name: inside.findall(page) for name, page in pages.items() if inside.search(page)} == {}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_changes_nothing(client_of, ada, acme_connection, method):
    record(team=acme_connection.team, actor=ada, action="session.started", target=ada)
    browser = client_of(ada)
    before = everything()
    for name in NAMES:
        browser.generic(method, url_of(name))
        assert everything() == before, name


def everything():
    models = [model for model in apps.get_models() if model._meta.label not in LEFT_ALONE]
    models = [model for model in models if model._meta.app_label != "controlplane"]
    return {model._meta.label: list(model._base_manager.order_by("pk").values_list()) for model in models}


@pytest.mark.parametrize("sent", ["abc-1.2_3", "A" * 64])
def test_a_sane_request_id_is_kept(client, sent):
    assert client.get("/healthz", headers={"X-Request-ID": sent})["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "A" * 65, "a b", "é", "a\x1b[31m", "<script>"])
def test_an_odd_request_id_is_replaced(client, sent):
    assert re.fullmatch(r"[0-9a-f]{32}", client.get("/healthz", headers={"X-Request-ID": sent})["X-Request-ID"])


def test_engines_of_other_teams_are_not_named_anywhere(client_of, ada, mallory, other_team):
    assert Engine.objects.of(other_team).count() == 0
    record(team=other_team, actor=mallory, action="session.started", target=mallory, reason="CANARY")
    for name in set(NAMES) - SIGNING:
        assert "CANARY" not in client_of(ada).get(url_of(name), follow=True).content.decode()
