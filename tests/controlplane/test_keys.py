"""Keys: how they are kept, what they may do, and when they end."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from engines.controlplane import keys
from engines.controlplane.models import ApiKey, Team
from tests.controlplane.conftest import Caller


def test_only_a_hash_is_kept(team):
    row, text = keys.issue(team, "mine")
    kept = [str(value) for value in ApiKey.objects.filter(pk=row.pk).values_list()[0]]
    assert text.startswith("inf_")
    assert [value for value in kept if text in value] == []
    assert text.startswith(row.prefix)


def test_its_use_is_noted(caller, team):
    caller.get("/me")
    assert ApiKey.objects.get().last_used_at is not None


@pytest.mark.parametrize(("ago", "is_noted"), [(55, False), (65, True)])
def test_its_use_is_noted_once_a_minute(caller, ago, is_noted):
    earlier = now() - timedelta(seconds=ago)
    ApiKey.objects.update(last_used_at=earlier)
    caller.get("/me")
    assert (ApiKey.objects.get().last_used_at > earlier) == is_noted


@pytest.mark.parametrize("header", ["", "inf_nobody-has-this", "x y"])
def test_an_unknown_key_is_unauthorized(header):
    answer = Caller(header).get("/me")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "unauthorized")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
def test_a_key_that_ended_is_unauthorized(caller, end):
    ApiKey.objects.update(**{end: now() - timedelta(seconds=1)})
    assert caller.get("/me").status_code == 401


@pytest.mark.parametrize(
    ("scopes", "needed", "granted"),
    [
        ([], "engines:write", True),
        (["*"], "tasks:write", True),
        (["engines:read"], "engines:read", True),
        (["engines:write"], "engines:read", True),
        (["engines:read"], "engines:write", False),
        (["engines:write"], "tasks:read", False),
        (["engines"], "engines:read", False),
    ],
)
def test_what_scopes_grant(scopes, needed, granted):
    assert keys.grants(scopes, needed) is granted


@pytest.mark.parametrize(
    ("method", "path", "held", "needed"),
    [
        ("post", "/engines/list", "tasks:write", "engines:read"),
        ("get", "/engines", "tasks:write", "engines:read"),
        ("get", "/engines/eng_1", "tasks:write", "engines:read"),
        ("post", "/engines/eng_1/drain", "engines:read", "engines:write"),
        ("post", "/engines/register", "engines:read", "engines:write"),
        ("post", "/run", "tasks:read", "tasks:write"),
        ("post", "/apps/run", "tasks:read", "tasks:write"),
        ("get", "/tasks/task_1", "engines:write", "tasks:read"),
        ("post", "/tasks/list", "engines:write", "tasks:read"),
        ("post", "/tasks/task_1/cancel", "tasks:read", "tasks:write"),
    ],
)
def test_a_missing_scope_is_named(team, method, path, held, needed):
    answer = getattr(Caller(keys.issue(team, "narrow", [held])[1]), method)(path)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "insufficient_scope")
    assert answer.json()["meta"] == {"required_scope": needed}


def test_me_names_team_key_and_scopes_and_needs_none(team):
    body = Caller(keys.issue(team, "narrow", ["tasks:read"])[1]).get("/me").json()
    assert (body["team_id"], body["key"]["name"], body["key"]["scopes"]) == (team.pk, "narrow", ["tasks:read"])


def test_another_teams_things_do_not_exist(agent, outsider, running):
    paths = [f"/engines/{agent.id}", f"/tasks/{running.pk}"]
    assert [outsider.get(path).status_code for path in paths] == [404, 404]
    assert outsider.post(f"/engines/{agent.id}/drain").status_code == 404
    assert outsider.post(f"/tasks/{running.pk}/cancel").status_code == 404
    assert outsider.post("/engines/list").json()["items"] == outsider.post("/tasks/list").json()["items"] == []


def test_the_command_prints_the_key_alone_and_makes_the_team():
    out = StringIO()
    call_command("create_api_key", team="fresh", name="ops", scopes="engines:read, engines:write", stdout=out)
    key = keys.find(out.getvalue().strip())
    assert (key.team.slug, key.name, key.scopes) == ("fresh", "ops", ["engines:read", "engines:write"])


def test_the_command_refuses_a_scope_that_does_not_exist():
    with pytest.raises(CommandError, match="engines:admin"):
        call_command("create_api_key", team="fresh", name="ops", scopes="engines:admin")


def test_a_balance_is_set_in_dollars():
    call_command("set_balance", team="fresh", dollars="250.01", stdout=StringIO())
    assert Team.objects.get(slug="fresh").balance_microcents == 25_001_000_000


@pytest.mark.parametrize("dollars", ["-1", "NaN", "much", "1e12"])
def test_a_balance_that_is_none_is_refused(dollars):
    with pytest.raises(CommandError):
        call_command("set_balance", team="fresh", dollars=dollars)
