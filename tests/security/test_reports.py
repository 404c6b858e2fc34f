"""ASVS 3.4.3: what the content policy refuses is reported, and reporting is no way in."""

import json
import logging

import pytest

from portal import reports

pytestmark = pytest.mark.django_db
REPORT = {
    "csp-report": {
        "document-uri": "https://portal.example/engines/?q=secret",
        "effective-directive": "script-src-elem",
        "blocked-uri": "inline",
        "script-sample": "alert(1)",
    }
}


@pytest.fixture(autouse=True)
def fresh_limit():
    reports.logged.storage.reset()


def send(client, body, **more):
    return client.generic("POST", "/csp-report", body, content_type="application/csp-report", **more)


def test_every_page_says_where_to_report(client):
    assert "report-uri /csp-report" in client.get("/accounts/login/")["Content-Security-Policy"]


def test_a_report_is_logged_without_the_query(client, caplog):
    with caplog.at_level(logging.WARNING, "portal.reports"):
        assert send(client, json.dumps(REPORT)).status_code == 204
    assert "script-src-elem" in caplog.text
    assert "secret" not in caplog.text


def test_a_report_cannot_write_lines_of_its_own(client, caplog):
    forged = {"csp-report": {"blocked-uri": "x\n2026-01-01 INFO all is well\x1b[31m"}}
    with caplog.at_level(logging.WARNING, "portal.reports"):
        send(client, json.dumps(forged))
    assert len(caplog.messages) == 1
    assert not set(caplog.messages[0]) & {"\n", "\x1b"}


def test_a_flood_of_reports_does_not_fill_the_log(client, caplog):
    with caplog.at_level(logging.WARNING, "portal.reports"):
        assert {send(client, json.dumps(REPORT)).status_code for _ in range(30)} == {204}
    assert len(caplog.messages) == 20


@pytest.mark.parametrize("body", ["", "[]", "{", '{"csp-report": 1}', "9" * 9000, b"\xff"])
def test_what_is_no_report_is_refused(client, body):
    assert send(client, body).status_code == 400
