"""Update: fetched and tried while it works, drained, swapped; and the old version runs on when that fails."""

import pytest

from tests.controlplane.conftest import kinds


def ask(caller, agent, **body):
    return caller.post(f"/engines/{agent.id}/update", body or None)


def shown(caller, agent):
    engine = caller.get(f"/engines/{agent.id}").json()
    return engine["status"], engine["update"]["phase"]


def code(answer):
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def test_the_engine_is_told_what_to_fetch_and_goes_on_taking_tasks(caller, agent, give):
    assert ask(caller, agent).status_code == 200
    told = agent.due()
    assert kinds(told) == ["update"]
    assert told[0]["data"]["version"] == "stable"
    assert told[0]["data"]["manifest_url"].endswith("/dist/engine/manifest.json")
    agent.report_update("fetching")
    assert give().worker_id
    assert shown(caller, agent) == ("running", "fetching")


@pytest.mark.parametrize(
    ("version", "path"), [("canary", "/canary/manifest.json"), ("v1.9.3", "/v1.9.3/manifest.json")]
)
def test_each_version_has_a_manifest(caller, agent, version, path):
    ask(caller, agent, version=version)
    assert agent.due()[0]["data"]["manifest_url"].endswith(path)


def pin(caller, agent):
    return caller.get(f"/engines/{agent.id}").json()["engine_pin"]


def test_a_tag_pins_once_it_runs_and_stable_lets_go(caller, agent):
    ask(caller, agent, version="v2.0.0")
    agent.report_update("ready")
    assert pin(caller, agent) == ""
    agent.report_drained()
    agent.come_back(caller, version="v2.0.0")
    assert pin(caller, agent) == "v2.0.0"
    ask(caller, agent, version="stable")
    assert pin(caller, agent) == "v2.0.0"
    agent.report_update("current", epoch=2)
    assert pin(caller, agent) == ""


def test_a_tag_that_cannot_be_used_pins_nothing(caller, agent):
    ask(caller, agent, version="v1.9.3")
    agent.report_update("failed", error="there is no such version")
    assert pin(caller, agent) == ""


@pytest.mark.parametrize("version", ["latest", "1.9.3", "v1", "v1.9.3/../..", "v1.9.3 "])
def test_what_is_no_version_is_refused(caller, agent, version):
    assert code(ask(caller, agent, version=version)) == (422, "validation_error")


def test_one_that_is_ready_is_drained_and_then_started_again(caller, agent, running):
    ask(caller, agent)
    agent.due()
    agent.report_update("ready")
    assert shown(caller, agent) == ("draining", "ready")
    assert kinds(agent.due()) == ["drain"]
    assert agent.report_drained() == []
    agent.finish(running)
    assert kinds(agent.report_drained()) == ["restart"]
    assert shown(caller, agent) == ("restarting", "ready")
    agent.come_back(caller)
    assert shown(caller, agent) == ("running", "done")
    assert agent.due() == []


def test_one_that_comes_back_as_it_was_has_failed_and_runs(caller, agent):
    ask(caller, agent)
    agent.report_update("ready")
    agent.report_drained()
    agent.come_back(caller, version="v1.0.0")
    assert shown(caller, agent) == ("running", "failed")
    assert "v1.0.0" in caller.get(f"/engines/{agent.id}").json()["update"]["error"]


def test_a_version_that_cannot_be_used_leaves_the_engine_running(caller, agent, give):
    ask(caller, agent)
    agent.due()
    agent.report_update("failed", error="the checksum differs")
    assert shown(caller, agent) == ("running", "failed")
    assert caller.get(f"/engines/{agent.id}").json()["update"]["error"] == "the checksum differs"
    assert give().worker_id


def test_one_that_fails_to_swap_takes_tasks_again(caller, agent, give):
    ask(caller, agent)
    agent.report_update("ready")
    agent.due()
    assert kinds(agent.report_drained()) == ["restart"]
    agent.report_update("failed", error="the disk is full")
    assert shown(caller, agent) == ("running", "failed")
    assert give().worker_id
    assert "drain" not in kinds(agent.due())


def test_nothing_newer_changes_nothing(caller, agent):
    ask(caller, agent)
    agent.report_update("current")
    assert shown(caller, agent) == ("running", "current")


def test_asking_for_the_same_again_changes_nothing(caller, agent):
    ask(caller, agent)
    ask(caller, agent)
    assert agent.row.update_epoch == 1


def test_a_word_about_an_older_request_changes_nothing(caller, agent):
    ask(caller, agent)
    ask(caller, agent, version="canary")
    agent.report_update("ready", epoch=1)
    assert shown(caller, agent) == ("running", "asked")


def test_an_engine_that_is_away_cannot_be_updated(caller, agent):
    agent.hang_up()
    assert code(ask(caller, agent)) == (409, "engine_offline")
    assert caller.get(f"/engines/{agent.id}").json()["update"] is None


def test_an_engine_that_drains_cannot_be_updated(caller, agent):
    caller.post(f"/engines/{agent.id}/drain")
    assert code(ask(caller, agent)) == (409, "conflict")


def test_a_drain_during_the_download_wins(caller, agent):
    ask(caller, agent)
    caller.post(f"/engines/{agent.id}/drain")
    agent.report_update("ready")
    assert shown(caller, agent) == ("draining", "failed")
    assert kinds(agent.report_drained()) == ["shutdown"]


def test_an_engine_that_drains_for_its_update_says_so_to_a_second_drain(caller, agent):
    ask(caller, agent)
    agent.report_update("ready")
    answer = caller.post(f"/engines/{agent.id}/drain")
    assert code(answer) == (409, "conflict")
    assert "being updated" in answer.json()["detail"]


def test_it_is_told_again_after_a_reconnect(caller, agent):
    ask(caller, agent)
    agent.due()
    agent.hang_up()
    agent.connect()
    assert kinds(agent.due()) == ["update"]


def test_a_process_that_died_while_it_was_drained_for_an_update_works_again(caller, agent, give):
    ask(caller, agent)
    agent.report_update("ready")
    agent.come_back(caller, version="v1.0.0")
    assert shown(caller, agent) == ("running", "failed")
    assert give().worker_id
    assert "drain" not in kinds(agent.due())


def test_the_answer_to_drained_is_repeated_if_it_was_lost(caller, agent):
    ask(caller, agent)
    agent.report_update("ready")
    agent.report_drained()
    agent.hang_up()
    agent.connect(mode="draining")
    assert kinds(agent.due()) == ["restart"]
