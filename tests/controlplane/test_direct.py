"""`POST /run` takes a shorter way than all other requests: nobody can tell from its answers."""

import json
import re

import pytest
from django.core.handlers.base import BaseHandler
from django.test import RequestFactory

from engines.controlplane import keys, statements
from engines.controlplane.direct import Direct
from engines.controlplane.models import Task

WELL = json.dumps({"app": "sleep", "input": {"seconds": 1}})
ONLY_THEIRS = re.compile(r'"(id|short_id|\w+_at)":"[^"]*"|req_\w+|[0-9a-f]{32}')


def asked_at(handler, path="/run", body=WELL, kind="application/json", **headers):
    handler.load_middleware()
    request = RequestFactory().generic("POST", path, body, kind, headers=headers)
    answer = handler.get_response(request)
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("X-R")}
    return answer.status_code, headers | {"names": sorted(answer.headers)}, ONLY_THEIRS.sub("", answer.content.decode())


@pytest.fixture
def bearer(team):
    return lambda *scopes: f"Bearer {keys.issue(team, 'a key', scopes)[1]}"


@pytest.mark.parametrize("version", ["1", "2", ""])
@pytest.mark.parametrize("path", ["/run", "/v1/apps/run"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (WELL, 200),
        ("{", 400),
        ("[]", 400),
        ("null", 422),
        ('{"app": ""}', 422),
        ('{"app": "sleep", "input": {"a": NaN}}', 400),
        ('{"app": "sleep", "input": {"a": "\\u0000"}}', 400),
        ('{"app": "sleep", "input": ' + "[" * 2000 + "]" * 2000 + "}", 400),
        (json.dumps({"app": "sleep", "input": {"text": "x" * 900_000}}), 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_request_gets_the_same_answer_on_either_way(bearer, path, body, status, version):
    facts = {"path": path, "body": body, "authorization": bearer(), "x-api-version": version}
    short, usual = asked_at(Direct(), **facts), asked_at(BaseHandler(), **facts)
    assert short[0] == status
    assert short == usual


@pytest.mark.parametrize(
    ("authorization", "status"), [("", 401), ("Basic x", 401), ("Bearer inf_nobody-has-it", 401), (None, 403)]
)
@pytest.mark.parametrize("body", [WELL, "{"])
def test_who_may_not_is_told_the_same_on_either_way(bearer, authorization, status, body):
    facts = {"authorization": bearer("tasks:read") if authorization is None else authorization, "body": body}
    short, usual = asked_at(Direct(), **facts), asked_at(BaseHandler(), **facts)
    assert short[0] == status
    assert short == usual


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data; boundary=x", "application/json; charset=x"])
@pytest.mark.parametrize(("body", "status"), [(WELL, 200), ("a=b", 400), ("", 422)])
def test_what_the_body_is_called_makes_no_difference(bearer, body, status, kind):
    facts = {"authorization": bearer(), "body": body, "kind": kind}
    short, usual = asked_at(Direct(), **facts), asked_at(BaseHandler(), **facts)
    assert short[0] == status
    assert short == usual


def test_a_key_for_repeats_works_on_the_short_way(bearer):
    facts = {"authorization": bearer(), "idempotency-key": "once"}
    first, second = asked_at(Direct(), **facts), asked_at(Direct(), **facts)
    assert first[0] == second[0] == 200
    assert Task.objects.count() == 1


def test_a_request_counts_once_against_the_limit(bearer, settings):
    settings.API_RATES = {**settings.API_RATES, "run": "2/minute"}
    authorization = bearer()
    bodies = ["{", WELL, WELL]
    assert [asked_at(Direct(), body=body, authorization=authorization)[0] for body in bodies] == [400, 200, 429]


def test_what_breaks_is_told_without_its_cause(bearer, monkeypatch):
    def break_(*given):
        raise ZeroDivisionError

    authorization = bearer()
    monkeypatch.setattr(statements, "insert", break_)
    monkeypatch.setattr(Task, "save", break_)
    short, usual = asked_at(Direct(), authorization=authorization), asked_at(BaseHandler(), authorization=authorization)
    assert short[0] == 500
    assert short == usual
    assert "ZeroDivision" not in short[2]
