"""Log lines carry the request id, also those that Django writes when the request is over."""

import logging

import pytest

from portal.logs import RequestIdFilter, request_id


def line(**more):
    record = logging.makeLogRecord({"msg": "x", **more})
    RequestIdFilter().filter(record)
    return record.request_id


def test_a_line_outside_of_requests_has_none():
    assert line() == "-"


def test_a_line_within_a_request_has_its_id():
    token = request_id.set("req-1")
    assert line() == "req-1"
    request_id.reset(token)


@pytest.mark.django_db
def test_a_line_about_a_finished_request_has_its_id(client):
    request = client.get("/nowhere/", headers={"X-Request-ID": "req-2"}).wsgi_request
    assert line(request=request) == "req-2"
