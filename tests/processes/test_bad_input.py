"""What the control plane says to what nobody should send, over real HTTP."""

import pytest

from tests.harness import csrf

pytestmark = pytest.mark.processes

BAD_KEY = "inf_no_such_key_0123456789"
ASKING = [
    ("wrong key", BAD_KEY, "POST", "/engines/list", {}, 401, "unauthorized"),
    ("key without the scope", "auditor@demo.example", "POST", "/engines/eng_1/drain", {}, 403, "insufficient_scope"),
    ("unknown engine", "all", "GET", "/engines/eng_nobody", {}, 404, "not_found"),
    ("no such address", "all", "GET", "/nowhere", {}, 404, "not_found"),
    ("malformed JSON", "all", "POST", "/engines/list", {"content": b'{"limit": '}, 400, "invalid_request"),
    ("bad cursor", "all", "POST", "/engines/list", {"json": {"cursor": "%%%"}}, 400, "invalid_request"),
    ("10 MB", "all", "POST", "/run", {"content": b'{"app": "' + b"x" * 10_000_000 + b'"}'}, 413, None),
]


@pytest.mark.parametrize(
    ("key", "method", "path", "body", "status", "code"), [case[1:] for case in ASKING], ids=[case[0] for case in ASKING]
)
def test_it_answers_with_a_problem(stack, key, method, path, body, status, code):
    with stack.api(key) as api:
        answer = api.request(method, path, headers={"Content-Type": "application/json"}, **body)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert code in (None, problem["type"].rsplit("/", 1)[-1])


def test_it_still_answers_afterwards(stack):
    assert isinstance(stack.engines(), list)


def test_nobody_chooses_the_address_that_the_audit_log_shows(stack):
    browser = stack.sign_in("auditor@demo.example")
    browser.post("/accounts/logout/", data=csrf(browser), headers={"X-Forwarded-For": "203.0.113.9"})
    newest = "SELECT action, address FROM audit_entry ORDER BY number DESC LIMIT 1"
    assert stack.query(newest) == [("session.ended", "127.0.0.1")]
