"""Rename, visibility, delete, transfer, releases."""

import json

import pytest

from engines.controlplane import releases
from engines.controlplane.models import Engine, Team
from tests.agent.distribution import Distribution
from tests.controlplane.conftest import Caller


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def test_a_name_given_here_outlasts_what_the_host_calls_itself(caller, agent):
    assert caller.post(f"/engines/{agent.id}", {"name": "rack-3-left"}).json()["name"] == "rack-3-left"
    agent.come_back(caller)
    assert caller.get(f"/engines/{agent.id}").json()["name"] == "rack-3-left"


def test_a_whole_engine_may_be_sent_back_with_another_name(caller, agent):
    engine = caller.get(f"/engines/{agent.id}").json()
    changed = caller.post(f"/engines/{agent.id}", {**engine, "name": "other", "status": "stopped"}).json()
    assert (changed["name"], changed["status"]) == ("other", "running")


def test_visibility_is_noted_and_lets_nobody_in(caller, outsider, agent):
    assert caller.post(f"/engines/{agent.id}/visibility", {"visibility": "public"}).json()["visibility"] == "public"
    assert outsider.get(f"/engines/{agent.id}").status_code == 404


def test_a_visibility_that_does_not_exist_is_refused(caller, agent):
    assert code(caller.post(f"/engines/{agent.id}/visibility", {"visibility": "everyone"})) == (422, "validation_error")


def test_an_engine_that_runs_is_not_deleted(caller, agent):
    assert code(caller.delete(f"/engines/{agent.id}")) == (409, "conflict")
    assert caller.get(f"/engines/{agent.id}").status_code == 200


def test_a_stopped_engine_is_deleted_and_cannot_come_back(caller, agent):
    agent.hang_up()
    caller.post(f"/engines/{agent.id}/stop")
    assert caller.delete(f"/engines/{agent.id}").status_code == 204
    assert caller.get(f"/engines/{agent.id}").status_code == 404
    assert caller.post("/engines/list").json()["items"] == []
    assert agent.register(caller).status_code == 404


def test_an_engine_that_is_away_with_a_task_is_not_deleted(caller, agent, running):
    agent.hang_up()
    assert code(caller.delete(f"/engines/{agent.id}")) == (409, "conflict")


def test_a_machine_that_costs_is_not_forgotten(caller, rented):
    caller.post(f"/engines/{rented.id}/drain")
    rented.report_drained()
    rented.hang_up()
    answer = caller.delete(f"/engines/{rented.id}")
    assert code(answer) == (409, "conflict")
    assert "machine" in answer.json()["detail"]


def test_an_engine_goes_to_another_team_when_it_is_not_connected(caller, outsider, agent):
    theirs = Team.objects.get(slug="mallory-inc")
    assert code(caller.post(f"/engines/{agent.id}/transfer", {"team_id": theirs.pk})) == (409, "conflict")
    agent.hang_up()
    assert caller.post(f"/engines/{agent.id}/transfer", {"team_id": theirs.pk}).json()["team_id"] == theirs.pk
    assert caller.get(f"/engines/{agent.id}").status_code == 404
    assert outsider.get(f"/engines/{agent.id}").json()["status"] == "stopped"


def test_a_team_that_does_not_exist_gets_nothing(caller, agent):
    agent.hang_up()
    assert caller.post(f"/engines/{agent.id}/transfer", {"team_id": "team_none"}).status_code == 404
    assert Engine.objects.get().team.slug == "acme"


def test_rented_time_stays_with_its_team(caller, outsider, rented):
    rented.hang_up()
    theirs = Team.objects.get(slug="mallory-inc")
    assert code(caller.post(f"/engines/{rented.id}/transfer", {"team_id": theirs.pk})) == (409, "conflict")


@pytest.fixture
def dist(settings, tmp_path):
    settings.ENGINE_DIST_DIR = tmp_path
    return tmp_path


def test_without_releases_there_are_none(caller, dist):
    assert caller.get("/engines/releases").json() == {"stable": None, "canary": None}


def test_the_head_of_each_channel_is_shown(caller, dist):
    (dist / "canary").mkdir()
    (dist / "manifest.json").write_text(json.dumps({"version": "v1.2.3", "releaseDate": "2026-11-01T00:00:00Z"}))
    (dist / "canary" / "manifest.json").write_text(json.dumps({"version": "v1.3.0-canary.1"}))
    assert caller.get("/engines/releases").json() == {
        "stable": {"version": "v1.2.3", "release_date": "2026-11-01T00:00:00Z"},
        "canary": {"version": "v1.3.0-canary.1", "release_date": ""},
    }


@pytest.fixture
def elsewhere(settings, tmp_path):
    """Releases on somebody else's server."""
    releases._read.clear()
    distribution = Distribution(tmp_path)
    settings.ENGINE_DIST_URL = distribution.url
    yield distribution
    distribution.stop()
    releases._read.clear()


def test_releases_may_lie_elsewhere(caller, agent, elsewhere):
    manifest = {"version": "v2.0.0", "releaseDate": "2026-11-01T00:00:00Z", "builds": {}}
    elsewhere.answers["/manifest.json"] = json.dumps(manifest).encode()
    answers = [caller.get("/engines/releases") for _ in range(2)]
    heads = {"stable": {"version": "v2.0.0", "release_date": "2026-11-01T00:00:00Z"}, "canary": None}
    assert [answer.json() for answer in answers] == [heads, heads]
    assert sorted(elsewhere.asked) == ["/canary/manifest.json", "/manifest.json"]  # once a minute
    caller.post(f"/engines/{agent.id}/update", {"version": "v2.0.0"})
    assert agent.due()[0]["data"]["manifest_url"] == f"{elsewhere.url}/v2.0.0/manifest.json"


@pytest.mark.parametrize("fault", ["error", "nobody"])
def test_a_place_of_releases_that_does_not_answer_is_a_502(caller, elsewhere, fault):
    elsewhere.answers["/manifest.json"] = lambda request: request.send_error(500)
    if fault == "nobody":
        elsewhere.stop()
    answer = caller.get("/engines/releases")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (502, "releases_unavailable")


def test_releases_are_handed_out_without_a_key_and_nothing_beside_them_is(dist):
    (dist / "manifest.json").write_text("{}")
    (dist.parent / "secret").write_text("secret")
    anybody = Caller("")
    assert b"".join(anybody.get("/dist/engine/manifest.json").streaming_content) == b"{}"
    for path in ("../secret", "%2e%2e/secret", "/etc/passwd", "", "canary", "no\0ne"):
        assert anybody.get(f"/dist/engine/{path}").status_code == 404
