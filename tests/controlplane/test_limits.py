"""How much one key may ask, and a request that comes twice."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.utils.timezone import now

from engines.controlplane import clouds, connection, idempotency, keys, ratelimits
from engines.controlplane.models import Answered, Engine, Task
from engines.controlplane.problems import Problem
from engines.controlplane.providers.base import Unclear
from tests.controlplane.conftest import Caller


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


@pytest.fixture
def two_a_minute(settings):
    settings.API_RATES = {"read": "2/minute", "write": "2/minute", "run": "1/minute", "failed": "2/minute"}
    ratelimits._limiter.cache_clear()
    yield
    ratelimits._limiter.cache_clear()


def test_a_window_that_is_over_is_counted_anew_and_forgotten(monkeypatch):
    counter = ratelimits.Memory()
    assert [counter.incr("a", 60), counter.incr("a", 60), counter.get("a")] == [1, 2, 2]
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert (counter.get("a"), counter.incr("b", 60)) == (0, 1)
    assert (list(counter.expirations), counter.incr("a", 60)) == (["b"], 1)


def test_counting_starts_no_thread():
    counter = ratelimits.Memory()
    counter.timer.join()  # the one of its start
    before = threading.active_count()
    counter.incr("a", 60)
    assert threading.active_count() == before


def test_threads_may_count_at_once():
    counter = ratelimits.Memory()
    with ThreadPoolExecutor(4) as threads:
        counted = list(threads.map(lambda _: counter.incr("a", 60), range(400)))
    assert sorted(counted) == list(range(1, 401))


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


def test_what_a_key_may_not_do_counts_too(team, two_a_minute):
    watcher = Caller(keys.issue(team, "watcher", ["tasks:read"])[1])
    assert [watcher.get("/engines").status_code for _ in range(3)] == [403, 403, 429]


@pytest.mark.parametrize("wrong", ["", "inf_guessed"])
def test_a_flood_without_a_valid_key_is_told_to_wait_and_holds_up_no_valid_one(caller, two_a_minute, wrong):
    stranger = Caller(wrong)
    assert [stranger.get("/engines").status_code for _ in range(3)] == [401, 401, 429]
    assert 1 <= int(stranger.get("/engines")["Retry-After"]) <= 60
    assert caller.get("/engines").status_code == 200


def test_a_flood_of_handshakes_without_a_valid_key_is_told_to_wait(agent, two_a_minute):
    scope = {"path": f"/engines/{agent.id}/ws", "headers": [], "client": ("198.51.100.7", 4711)}

    def status(**more):
        with pytest.raises(Problem) as refused:
            connection._admit(scope | more)
        return refused.value.status

    assert [status() for _ in range(3)] == [401, 401, 429]
    assert status(client=("198.51.100.8", 4711)) == 401


def test_all_addresses_of_one_ipv6_network_are_one_caller(two_a_minute):
    for address in ("2001:db8::1", "2001:db8::2"):
        ratelimits.take_failure(address)
    with pytest.raises(Problem):
        ratelimits.take_failure("2001:db8::3")
    ratelimits.take_failure("2001:db8:0:1::1")


def test_what_needs_no_key_is_counted_by_address(caller, cloud, two_a_minute):
    caller.key = ""
    assert [caller.get("/instances/types").status_code for _ in range(3)] == [200, 200, 429]


def test_a_cloud_that_does_not_answer_is_not_asked_by_everybody(caller, monkeypatch):
    asked = []

    class Away:
        name = "away"

        def types(self):
            asked.append(1)
            raise Unclear("no answer")

    clouds_here = type("Clouds", (), {"all": lambda self: [Away()]})()
    monkeypatch.setattr(clouds, "_clouds", lambda: clouds_here)
    monkeypatch.setattr(clouds, "_read", {})
    assert [caller.get("/instances/types").status_code for _ in range(3)] == [502] * 3
    assert len(asked) == 1
    clouds._read["away"] = (0.0, clouds._read["away"][1])  # the pause is over
    caller.get("/instances/types")
    assert len(asked) == 2


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
