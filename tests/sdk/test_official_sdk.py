"""The official JavaScript SDK against this server: each of its engine methods, a task's run, and what is around."""

import json
from datetime import datetime, timedelta

import pytest

pytestmark = pytest.mark.processes

HOURS = timedelta(hours=2)  # what the driver extends by
COMPLETED, CANCELLED = 10, 12


def value(steps, name):
    line = steps[name]
    assert line["ok"], line
    return line["value"]


def refusal(steps, name):
    """The status and the code of an error."""
    line = steps[name]
    assert not line["ok"], line
    return line["status"], json.loads(line["body"])["type"].rpartition("/")[2]


def words(steps, name):
    """The message of an error that did not come as a response."""
    line = steps[name]
    assert not line["ok"], line
    return line["error"]


# Reading


def test_it_lists_engines(steps, engine):
    page = value(steps, "list")
    assert [one["id"] for one in page["items"]] == [engine["id"]]
    assert (page["has_next"], page["has_previous"], page["items_per_page"]) == (False, False, 20)


def test_it_lists_a_page(steps, engine):
    assert [one["id"] for one in value(steps, "list page")["items"]] == [engine["id"]]


def test_it_gets_an_engine(steps, engine):
    assert value(steps, "get")["id"] == engine["id"]
    assert value(steps, "get")["config"]["api_key"] == ""


def test_it_gets_the_engines_for_an_app(steps, engine):
    assert [one["id"] for one in value(steps, "getForResources")] == [engine["id"]]


def test_an_unknown_engine_is_not_found(steps):
    assert refusal(steps, "get unknown") == (404, "not_found")


def test_a_wrong_key_is_refused(steps):
    assert refusal(steps, "with a wrong key") == (401, "unauthorized")


# Following


def test_its_event_source_gets_the_engine_and_then_every_change(steps, engine):
    seen = value(steps, "stream")
    assert seen[0] == {**seen[0], "id": engine["id"], "name": "host-1"}
    assert (seen[-1]["name"], sorted(seen[-1])) == ("by-events", sorted(seen[0]))


def test_its_line_reader_gets_the_engine_and_then_every_change(steps, engine):
    seen = value(steps, "stream ndjson")
    assert (seen[0]["id"], seen[0]["name"], seen[-1]["name"]) == (engine["id"], "by-events", "by-lines")


def test_the_stream_of_an_unknown_engine_does_not_open(steps):
    assert "stream error" in words(steps, "stream unknown")


def test_the_teams_events_tell_of_engines(steps, engine):
    assert (engine["id"], "host-1") in [(one["id"], one.get("name")) for one in value(steps, "events")]


# Tasks


def test_it_runs_a_task_and_waits_for_its_output(steps):
    told = value(steps, "run")
    assert (told["task"]["status"], told["task"]["output"]) == (COMPLETED, {"seconds": 0.5})
    assert told["updates"] == sorted(told["updates"])
    assert told["updates"][-1] == COMPLETED


def test_it_runs_a_task_and_polls_for_its_output(steps):
    task = value(steps, "run polled")
    assert (task["status"], task["output"]) == (COMPLETED, {"seconds": 0.2})


def test_a_task_needs_no_input_member(steps):
    assert value(steps, "run without input")["input"] == {}


def test_a_failed_task_says_why(steps):
    assert words(steps, "run failing") == "sleep: seconds must be a number"


def test_it_sees_its_cancelled_task_end(steps):
    assert value(steps, "cancel")[-1]["status"] == CANCELLED
    assert value(steps, "task")["status"] == CANCELLED


def test_waiting_for_a_cancelled_task_ends(steps):
    assert words(steps, "run of a cancelled task") == "task cancelled"


def test_it_reads_the_logs_of_a_task(steps):
    logs = value(steps, "task logs")
    assert (logs["task_id"], logs["status"]) == (value(steps, "task")["id"], CANCELLED)


def test_it_lists_tasks(steps):
    assert len(value(steps, "tasks")["items"]) == 2


# Making, changing, giving away


def test_it_creates_an_engine(steps):
    made = value(steps, "create")
    assert (made["name"], made["status"], made.get("instance")) == ("made-by-sdk", "pending", None)


def test_it_sends_a_whole_engine_back_to_change_its_name(steps):
    made, changed = value(steps, "create"), value(steps, "update")
    assert changed == {
        **made,
        "name": "renamed-by-sdk",
        "config": changed["config"],
        "updated_at": changed["updated_at"],
    }


def test_it_changes_the_visibility(steps):
    assert value(steps, "updateVisibility")["visibility"] == "private"


def test_an_unknown_visibility_is_refused(steps):
    assert refusal(steps, "updateVisibility unknown")[1] == "validation_error"


def test_it_deletes_an_engine(steps):
    assert value(steps, "delete") is None
    assert steps["delete"]["nothing"]
    assert refusal(steps, "get deleted") == (404, "not_found")


def test_it_transfers_an_engine(steps, other_team):
    given = value(steps, "create to give")
    assert value(steps, "transferOwnership") == {**given, **value(steps, "transferOwnership"), "team_id": other_team}


def test_nothing_is_given_to_a_team_that_is_not_there(steps):
    assert refusal(steps, "transferOwnership nowhere")[0] in (403, 404)


# In a cloud


def test_an_engine_in_a_cloud_becomes_active(steps):
    assert value(steps, "cloud active")["instance"]["auto_delete"]["date_threshold"]


def test_extend_without_hours_is_refused_as_invalid(steps):
    """`client.engines.extend(id)` sends no body."""
    assert refusal(steps, "extend") == (400, "validation_error")


def test_extend_with_hours_moves_the_end(steps):
    before, after = value(steps, "cloud active"), value(steps, "extend by hours")
    assert _end(after) - _end(before) == HOURS


def _end(engine):
    return datetime.fromisoformat(engine["instance"]["auto_delete"]["date_threshold"])


def test_it_restarts_a_cloud_engine(steps):
    assert value(steps, "restart")["status"] in ("draining", "restarting")
    assert value(steps, "restarted")["id"] == value(steps, "create in a cloud")["id"]


def test_it_stops_a_cloud_engine(steps):
    assert value(steps, "stop")["status"] in ("stopping", "stopped")
    assert value(steps, "cloud stopped")["instance"]["status"] in ("deleting", "deleted")


def test_it_deletes_a_stopped_cloud_engine(steps):
    assert value(steps, "delete from a cloud") is None


# Its end


def test_a_self_hosted_engine_has_no_machine_to_restart(steps):
    assert refusal(steps, "restart self-hosted")[1] == "restart_unsupported"


def test_a_self_hosted_engine_has_no_time_to_extend(steps):
    assert refusal(steps, "extend self-hosted") == (400, "extend_failed")


def test_it_updates_the_engines_program(steps, engine):
    assert (engine["engine_version"], value(steps, "updateBinary")["id"]) == ("v1.2.3", engine["id"])
    assert value(steps, "updated")["engine_version"] == "v1.3.0"


def test_a_running_engine_is_not_deleted(steps):
    assert refusal(steps, "delete running") == (409, "conflict")


def test_it_drains_an_engine(steps):
    assert value(steps, "drain")["status"] in ("draining", "stopped")  # it is idle, so it may be done by the answer
    assert value(steps, "drained")["status"] == "stopped"


def test_draining_a_stopped_engine_is_refused(steps):
    assert refusal(steps, "drain stopped") == (409, "engine_offline")


def test_stopping_a_stopped_engine_changes_nothing(steps):
    assert value(steps, "stop stopped")["status"] == "stopped"


def test_a_task_for_an_engine_that_is_away_waits(steps):
    assert value(steps, "run on nothing")["status"] == 2


# Around


def test_it_says_who_calls(steps, server):
    assert value(steps, "me")["team"]["username"] == server.team


def test_a_key_it_makes_may_do_what_it_was_given(steps):
    key = value(steps, "key")
    assert (key["name"], key["scopes"]) == ("by-sdk", ["engines:read"])
    assert len(value(steps, "made key")["items"]) == 1
    assert refusal(steps, "made key drains") == (403, "insufficient_scope")


def test_listed_keys_are_not_usable(steps):
    made = value(steps, "key")
    listed = next(one for one in value(steps, "keys")["items"] if one["id"] == made["id"])
    assert made["key"].startswith("inf_")
    assert made["key"] not in json.dumps(listed)


def test_a_key_it_deletes_is_refused(steps):
    assert value(steps, "delete key") is None
    assert refusal(steps, "deleted key") == (401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "member"), [("/scopes", "scopes"), ("/billing", "balance"), ("/billing/balance", "balance")]
)
def test_its_http_client_reads_what_has_no_method(steps, path, member):
    assert value(steps, path)[member]


def test_its_http_client_reads_the_instance_types(steps):
    assert all(one["id"] == f"{one['cloud']}.{one['shade_instance_type']}" for one in value(steps, "/instances/types"))
    assert value(steps, "/instances/types")


def test_its_http_client_reads_the_releases(steps):
    assert value(steps, "/engines/releases")["stable"]["version"] == "v1.3.0"
