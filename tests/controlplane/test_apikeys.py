"""Keys over HTTP: nobody can give away more than they hold."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from engines.controlplane import keys
from tests.controlplane.conftest import Caller


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


@pytest.fixture
def limited(team):
    """Somebody who may make keys and read engines."""
    return Caller(keys.issue(team, "limited", ["apikeys:write", "engines:read"])[1])


def test_a_new_key_is_shown_once_and_works(caller, agent):
    made = caller.post("/apikeys", {"name": "reader", "scopes": ["engines:read"]}).json()
    assert Caller(made["key"]).get("/engines").status_code == 200
    assert Caller(made["key"]).post(f"/engines/{agent.id}/drain").status_code == 403
    assert (made["scopes"], made["grants"]) == (["engines:read"], ["engines:read"])
    listed = next(key for key in caller.post("/apikeys/list").json()["items"] if key["id"] == made["id"])
    assert made["key"] not in str(listed)


@pytest.mark.parametrize("scopes", [[None], ["engines:read", None], [[]], "*", {}, 1])
def test_scopes_that_are_no_list_of_texts_are_named_as_what_is_wrong(caller, scopes):
    answer = caller.post("/apikeys", {"name": "odd", "scopes": scopes})
    assert code(answer) == (422, "validation_error")
    assert answer.json()["detail"].startswith("scopes")


def test_a_key_cannot_make_one_that_may_do_more(limited):
    answer = limited.post("/apikeys", {"name": "more", "scopes": ["engines:write"]})
    assert code(answer) == (403, "insufficient_scope")
    assert answer.json()["meta"]["required_scope"] == "engines:write"
    assert code(limited.post("/apikeys", {"name": "all", "scopes": ["*"]})) == (403, "insufficient_scope")


@pytest.mark.parametrize("scopes", [{}, {"scopes": []}, {"scopes": None}])
def test_a_key_without_scopes_gets_those_of_the_key_that_makes_it(limited, scopes):
    made = limited.post("/apikeys", {"name": "same", **scopes}).json()
    assert sorted(made["scopes"]) == ["apikeys:write", "engines:read"]


def test_an_unknown_scope_is_refused(caller):
    assert code(caller.post("/apikeys", {"name": "x", "scopes": ["engines"]})) == (422, "validation_error")


def test_a_key_that_has_expired_already_is_not_made(caller):
    past = (now() - timedelta(hours=1)).isoformat()
    assert code(caller.post("/apikeys", {"name": "x", "expires_at": past})) == (422, "validation_error")


def test_a_key_that_ends_makes_none_that_outlives_it(team):
    end = (now() + timedelta(hours=1)).replace(microsecond=0)
    brief = Caller(keys.issue(team, "brief", expires_at=end)[1])
    made = brief.post("/apikeys", {"name": "heir"}).json()
    assert made["expires_at"].startswith(end.isoformat()[:19])
    later = (end + timedelta(seconds=1)).isoformat()
    assert code(brief.post("/apikeys", {"name": "longer", "expires_at": later})) == (422, "validation_error")


@pytest.mark.parametrize("when", ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59"])
def test_an_end_beyond_the_calendar_is_refused(caller, when):
    assert code(caller.post("/apikeys", {"name": "x", "expires_at": when})) == (422, "validation_error")


def test_a_deleted_key_opens_nothing_and_is_gone_from_the_list(caller):
    made = caller.post("/apikeys", {"name": "short-lived"}).json()
    assert caller.delete(f"/apikeys/{made['id']}").status_code == 204
    assert Caller(made["key"]).get("/me").status_code == 401
    assert made["id"] not in [key["id"] for key in caller.post("/apikeys/list").json()["items"]]
    assert caller.delete(f"/apikeys/{made['id']}").status_code == 404


def test_a_key_is_deleted_once_under_an_idempotency_key(caller):
    made = caller.post("/apikeys", {"name": "short-lived"}).json()
    answers = [caller.send("delete", f"/apikeys/{made['id']}", Idempotency_Key="k1") for _ in range(2)]
    assert [(answer.status_code, answer.headers.get("Idempotent-Replayed")) for answer in answers] == [
        (204, None),
        (204, "true"),
    ]


def test_another_teams_keys_are_unknown(caller, outsider):
    made = caller.post("/apikeys", {"name": "ours"}).json()
    assert outsider.delete(f"/apikeys/{made['id']}").status_code == 404
    assert made["id"] not in str(outsider.post("/apikeys/list").json())


def test_every_scope_is_described(caller):
    offered = {scope["value"] for scope in caller.get("/scopes").json()["scopes"]}
    assert offered == set(keys.SCOPES)


def test_the_hosted_apis_word_for_running_works(team):
    runner = Caller(keys.issue(team, "runner", ["apps:execute"])[1])
    made = runner.post("/apps/run", {"app": "sleep"})
    assert made.status_code == 200
    assert runner.get(f"/tasks/{made.json()['id']}").status_code == 200
    assert runner.get("/engines").status_code == 403
