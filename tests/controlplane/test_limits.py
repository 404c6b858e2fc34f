"""How much one key may ask, and a request that comes twice."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from engines.controlplane import idempotency, keys, ratelimits
from engines.controlplane.models import Answered, Engine, Task
from tests.controlplane.conftest import Caller


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


@pytest.fixture
def two_a_minute(settings):
    settings.API_RATES = {"read": "2/minute", "write": "2/minute", "run": "1/minute"}
    ratelimits._limiter.cache_clear()
    yield
    ratelimits._limiter.cache_clear()


def test_beyond_its_limit_a_key_is_told_when_to_ask_again(caller, two_a_minute):
    assert [caller.get("/engines").status_code for _ in range(2)] == [200, 200]
    answer = caller.get("/engines")
    assert code(answer) == (429, "rate_limited")
    assert 1 <= int(answer["Retry-After"]) <= 60


def test_every_answer_says_what_is_left(caller, two_a_minute):
    answer = caller.get("/engines")
    assert answer["X-RateLimit-Remaining"] == "1"
    assert int(answer["X-RateLimit-Reset"]) > now().timestamp()


def test_reading_does_not_use_up_what_is_for_changing(caller, agent, two_a_minute):
    caller.get("/engines")
    caller.get("/engines")
    assert caller.post("/engines/list").status_code == 429
    assert caller.post(f"/engines/{agent.id}/drain").status_code == 200


def test_one_key_does_not_use_up_anothers(caller, team, two_a_minute):
    for _ in range(3):
        caller.get("/engines")
    assert Caller(keys.issue(team, "another")[1]).get("/engines").status_code == 200


def test_what_is_refused_is_not_done(caller, two_a_minute):
    caller.post("/run", {"app": "sleep"})
    assert caller.post("/run", {"app": "sleep"}).status_code == 429
    assert Task.objects.count() == 1


def test_the_same_request_again_is_answered_and_not_done_again(caller):
    first = caller.post("/run", {"app": "sleep"}, Idempotency_Key="a")
    again = caller.post("/run", {"app": "sleep"}, Idempotency_Key="a")
    assert again.json() == first.json()
    assert (again["Idempotent-Replayed"], Task.objects.count()) == ("true", 1)


def test_another_callers_key_of_the_same_name_is_another(caller, outsider):
    caller.post("/run", {"app": "sleep"}, Idempotency_Key="a")
    outsider.post("/run", {"app": "sleep"}, Idempotency_Key="a")
    assert Task.objects.count() == 2


def test_the_replay_comes_in_the_format_that_is_asked_for_now(caller):
    caller.post("/engines", {"name": "x"}, Idempotency_Key="a")
    again = caller.post("/engines", {"name": "x"}, version="1", Idempotency_Key="a").json()
    assert (again["success"], again["data"]["name"]) == (True, "x")
    assert Engine.objects.count() == 1


def test_a_deletion_that_is_sent_again_is_answered_as_the_first_time(caller):
    made = caller.post("/engines", {"name": "x"}).json()
    for _ in range(2):
        assert caller.send("delete", f"/engines/{made['id']}", Idempotency_Key="d").status_code == 204


def test_a_new_keys_text_is_not_kept_to_be_answered_again(caller):
    made = caller.post("/apikeys", {"name": "x"}, Idempotency_Key="k").json()
    assert made["key"] not in str(list(Answered.objects.values()))
    assert code(caller.post("/apikeys", {"name": "x"}, Idempotency_Key="k")) == (409, "shown_once")


def test_one_that_is_under_way_is_not_begun_again(caller, team):
    row = Answered.objects.create(key=team.apikey_set.get(), text="a", fingerprint="")
    row.fingerprint = _fingerprint("POST /run", b'{"app": "sleep"}')
    row.save()
    answer = caller.post("/run", {"app": "sleep"}, Idempotency_Key="a")
    assert code(answer) == (409, "request_in_progress")
    assert answer["Retry-After"] == "1"
    Answered.objects.update(created_at=now() - timedelta(minutes=5))
    assert code(caller.post("/run", {"app": "sleep"}, Idempotency_Key="a")) == (409, "outcome_unknown")
    assert Task.objects.count() == 0


def _fingerprint(what, body):
    import hashlib

    return hashlib.sha256(what.encode() + b"\n" + body).hexdigest()


def test_answers_are_forgotten_after_a_day(caller, later):
    caller.post("/run", {"app": "sleep"}, Idempotency_Key="a")
    later(25 * 3600)
    idempotency.forget_old()
    assert Answered.objects.count() == 0
