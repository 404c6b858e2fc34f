"""Log lines carry the request id, also those that Django writes when the request is over."""

import logging

import pytest
from celery.signals import setup_logging

from portal.logs import Line, RequestIdFilter, on_behalf_of, request_id


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


def test_a_line_on_behalf_of_a_request_has_its_id():
    with on_behalf_of("req-3"):
        assert line() == "req-3"
    assert line() == "-"


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\x85b", "a\u2028b", "a\x00b"])
def test_what_was_written_elsewhere_starts_no_line_of_its_own(text):
    record = logging.makeLogRecord({"msg": "refused %s", "args": (text,)})
    written = Line("%(message)s").format(record)
    assert len(written.splitlines()) == 1
    assert written.isprintable()


def test_a_traceback_keeps_its_lines():
    try:
        raise RuntimeError("x")
    except RuntimeError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (type(error), error, error.__traceback__)})
    assert "\n    raise RuntimeError" in Line("%(message)s").format(record)


def test_the_workers_log_is_the_portal_s_not_celery_s():
    assert setup_logging.has_listeners()
    assert logging.getLogger("celery").getEffectiveLevel() >= logging.WARNING
