"""Update, restart and stop: who may, what is sent how often, and what a reading proves."""

from datetime import timedelta

import pytest

from engines import wire
from engines.api.errors import NotSent
from engines.enums import MONEY, State, Verb
from engines.models import Engine, Operation
from engines.operations.request import request
from engines.operations.send import classify, send
from engines.operations.verbs import VERBS
from engines.tickets import Ticket
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from portal.vault.models import StoredKey
from tests.engines.conftest import NOW, dto, put, read, wish

pytestmark = pytest.mark.django_db
MACHINE = {"instance": {"cloud": "local", "status": "active"}}


@pytest.fixture(autouse=True)
def later(monkeypatch):
    """Readings are settled half a minute after everything was sent."""
    clock = {"now": NOW + timedelta(seconds=30)}
    monkeypatch.setattr("portal.clock.now", lambda: clock["now"])
    return clock


@pytest.fixture
def adas_key(ada, acme_connection):
    return store(
        user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"]
    )


@pytest.fixture
def asked(engine, ada, adas_key):
    """Ask for a verb as Ada and return the operation."""

    def _ask(verb, **parameters):
        origin = Origin(request_id="req-1", address="10.0.0.9", role="admin")
        key = StoredKey.objects.get(pk=adas_key.pk)
        row = Engine.objects.get(pk=engine.pk)
        return request(wish(verb=verb, parameters=parameters), engine=row, user=ada, key=key, origin=origin, now=NOW)

    return _ask


def after(operation, state, *, at=NOW + timedelta(seconds=30), **reading):
    put(operation, state)
    read(operation.engine.connection, dto(**reading), at=at)
    operation.refresh_from_db()
    return operation.state


def form(verb, engine, user, **changes):
    return {"reason": "patch", "deadline": "2", "ticket": Ticket.issue(verb, engine, user), **changes}


def post(client, verb, engine, user, **changes):
    return client.post(f"/engines/{engine.uid}/{verb}/", form(verb, engine, user, **changes))


# Who may


@pytest.mark.parametrize(
    ("verb", "who", "code"),
    [
        ("update", "olga", 302),
        ("update", "bill", 403),
        ("stop", "olga", 403),
        ("stop", "ada", 302),
        ("stop", "audra", 403),
    ],
)
def test_each_verb_has_its_roles(request, client_of, engine, olgas_key, adas_key, verb, who, code):
    user = request.getfixturevalue(who)
    more = {"version": "stable"} if verb == "update" else {}
    assert post(client_of(user), verb, engine, user, **more).status_code == code


def test_the_engine_page_offers_what_the_role_may_and_says_why_not(client_of, engine, olga, olgas_key):
    page = client_of(olga).get("/engines/eng_1/").content.decode()
    assert 'href="/engines/eng_1/update/"' in page
    assert 'href="/engines/eng_1/stop/"' not in page
    assert page.count("Your role (Operator) may not") == 1
    assert "may not stop, extend, delete engines" in page
    assert "Only the machine of a cloud engine can be restarted" in page


# Update


def test_an_update_keeps_what_was_asked_and_what_ran(client_of, engine, olga, olgas_key):
    post(client_of(olga), "update", engine, olga, version="v2.0.0")
    assert Operation.objects.get().parameters == {"version": "v2.0.0", "from": "v1.0.0"}


@pytest.mark.parametrize("version", ["", "latest", "2.0.0", "v2"])
def test_what_is_no_version_is_refused_with_words(client_of, engine, olga, olgas_key, version):
    assert post(client_of(olga), "update", engine, olga, version=version).status_code == 422
    assert Operation.objects.count() == 0


@pytest.mark.parametrize(("version", "body"), [("stable", {}), ("canary", {"version": "canary"})])
def test_a_version_is_sent_only_where_it_is_needed(api, asked, version, body):
    operation = asked(Verb.UPDATE, version=version)
    send(str(operation.pk), NOW)
    assert api.bodies["update"] == body


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("asked", "working"),
        ("fetching", "working"),
        ("ready", "working"),
        ("done", "succeeded"),
        ("current", "succeeded"),
    ],
)
def test_our_control_planes_word_counts(asked, phase, state):
    told = {"asked": "stable", "phase": phase, "version": "v2.0.0", "error": ""}
    assert after(asked(Verb.UPDATE), "accepted", status="running", update=told) == state


def test_an_update_that_failed_says_why_and_that_the_old_version_runs(asked):
    told = {"asked": "stable", "phase": "failed", "version": "v2.0.0", "error": "the checksum differs"}
    operation = asked(Verb.UPDATE)
    assert after(operation, "working", status="running", update=told) == State.FAILED
    assert operation.note == "v1.0.0 runs on: the checksum differs"


@pytest.mark.parametrize("state", ["working", "stuck"])
def test_an_update_that_failed_after_its_deadline_has_failed_all_the_same(asked, state):
    told = {"asked": "stable", "phase": "failed", "version": "v2.0.0", "error": "the checksum differs"}
    operation = put(asked(Verb.UPDATE), state, deadline_at=NOW)
    assert after(operation, state, status="running", update=told) == State.FAILED


def test_without_its_word_a_new_version_is_success(asked):
    operation = asked(Verb.UPDATE, **{"from": "v1.0.0"})
    assert after(operation, "accepted", status="running", engine_version="v2.0.0") == State.SUCCEEDED


def test_without_its_word_a_restart_cycle_is_success(asked):
    operation = asked(Verb.UPDATE, **{"from": "v1.0.0"})
    assert after(operation, "accepted", status="restarting") == State.WORKING
    assert after(operation, "working", status="running", at=NOW + timedelta(seconds=40)) == State.SUCCEEDED


def test_an_update_of_which_nothing_shows_becomes_a_persons_business(asked, later):
    operation = asked(Verb.UPDATE, **{"from": "v1.0.0"})
    later["now"] = NOW + timedelta(minutes=16)
    assert after(operation, "accepted", status="running", at=NOW + timedelta(minutes=16)) == State.NEEDS_ATTENTION


# Restart


def test_a_restart_that_nobody_answered_is_not_sent_again(api, asked, engine):
    api.trouble["POST /engines/eng_1/restart"] = "reset after"
    operation = asked(Verb.RESTART)
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.UNKNOWN
    assert after(operation, "unknown", status="running") == State.UNKNOWN
    assert len(api.sent("POST", "/engines/eng_1/restart")) == 1


def test_a_restart_is_not_repeated_even_where_nothing_was_sent(asked, adas_key):
    operation = put(asked(Verb.RESTART), "sending")
    found = classify(NotSent("No connection."), operation, adas_key, VERBS[Verb.RESTART].max_sends)
    assert (found.state, found.note) == (State.FAILED, "No connection. Tried once; nothing was changed.")


def test_a_restart_whose_engine_cannot_be_read_is_not_sent(api, asked):
    api.close()
    operation = asked(Verb.RESTART)
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == (State.REQUESTED, 0)


def test_a_machine_whose_engine_went_offline_since_is_not_restarted(api, asked):
    operation = asked(Verb.RESTART, online=True)
    api.engines["eng_1"] = dto(status="disconnected", busy=["task_1"], **MACHINE)
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert (operation.state, "went offline" in operation.note) == (State.FAILED, True)
    assert api.sent("POST", "/engines/eng_1/restart") == []


@pytest.mark.parametrize(("online", "said"), [(True, "true"), (False, None)])
def test_an_api_that_can_leaves_a_machine_alone_whose_engine_goes_offline_that_moment(api, asked, online, said):
    operation = asked(Verb.RESTART, online=online)
    send(str(operation.pk), NOW)
    assert api.headers["POST /engines/eng_1/restart"].get(wire.ONLY_IF_CONNECTED) == said


@pytest.mark.parametrize(("status", "is_cut"), [("running", False), ("disconnected", True)])
def test_a_restart_says_that_it_cuts_what_runs_on_an_engine_that_is_offline(
    client_of, engine, olga, olgas_key, acme_connection, status, is_cut
):
    read(acme_connection, dto(status=status, busy=["task_1"], **MACHINE), at=NOW + timedelta(seconds=1))
    olgas = client_of(olga)
    page = olgas.get("/engines/eng_1/restart/").content.decode()
    assert ("What still runs is cut:" in page, "restarted at once" in page) == (is_cut, is_cut)
    engine.refresh_from_db()
    assert post(olgas, "restart", engine, olga).status_code == 302
    assert Operation.objects.get().parameters["online"] is not is_cut


def test_a_machine_that_was_seen_to_restart_and_is_back_has_restarted(asked):
    operation = asked(Verb.RESTART)
    assert after(operation, "accepted", status="restarting", **MACHINE) == State.WORKING
    at = NOW + timedelta(seconds=40)
    assert after(operation, "working", status="running", at=at, **MACHINE) == State.SUCCEEDED


def test_another_process_is_a_restart_even_if_nobody_saw_it(asked):
    operation = asked(Verb.RESTART, boot_id="a")
    assert after(operation, "accepted", status="running", boot_id="a", **MACHINE) == State.ACCEPTED
    at = NOW + timedelta(seconds=40)
    assert after(operation, "accepted", status="running", boot_id="b", at=at, **MACHINE) == State.SUCCEEDED


def test_the_same_process_that_runs_on_was_not_restarted_until_another_answers(asked):
    operation = asked(Verb.RESTART, boot_id="a")
    readings = [
        ("accepted", "restarting", "a", State.WORKING),
        ("working", "running", "a", State.NEEDS_ATTENTION),
        ("needs_attention", "running", "b", State.SUCCEEDED),
    ]
    for seconds, (before, status, boot, state) in enumerate(readings, 30):
        at = NOW + timedelta(seconds=seconds)
        assert after(operation, before, status=status, boot_id=boot, at=at, **MACHINE) == state


def test_a_restart_that_nobody_saw_is_a_persons_business(asked, later):
    operation = asked(Verb.RESTART)
    later["now"] = NOW + timedelta(minutes=3)
    at = NOW + timedelta(minutes=3)
    assert after(operation, "accepted", status="running", at=at, **MACHINE) == State.NEEDS_ATTENTION


# Delete


@pytest.mark.parametrize(("status", "sends"), [("stopped", 1), ("running", 0)])
def test_an_engine_that_is_back_at_work_is_not_deleted_by_a_second_try(api, asked, status, sends):
    operation = put(asked(Verb.DELETE), "requested", next_at=NOW)
    api.engines["eng_1"] = dto(status=status, busy=["task_1"] if status == "running" else [])
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == (State.ACCEPTED if sends else State.FAILED)
    assert len(api.sent("DELETE", "/engines/eng_1")) == sends


# Stop


@pytest.mark.parametrize(
    ("status", "state"), [("stopping", "working"), ("stopped", "succeeded"), ("disconnected", "lost_contact")]
)
def test_a_stop_is_what_the_engine_shows(asked, status, state):
    assert after(asked(Verb.STOP, online=True), "accepted", status=status) == state


def test_a_machine_that_is_still_rented_is_no_success_however_stopped_its_engine_is(asked):
    operation = asked(Verb.STOP, online=True)
    assert after(operation, "unknown", status="stopped", **MACHINE) == State.REQUESTED
    put(operation, "unknown", attempts=2)
    read(operation.engine.connection, dto(status="stopped", **MACHINE), at=NOW + timedelta(seconds=40))
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_ATTENTION
    assert "goes on costing" in operation.note


@pytest.mark.parametrize("before", ["working", "lost_contact"])
def test_a_machine_that_is_kept_after_its_engine_finished_asks_a_person(asked, later, before):
    operation = put(asked(Verb.STOP, online=True), before)
    seen = []
    for seconds in (3600, 3640, 3670):  # its tasks took an hour
        later["now"] = at = NOW + timedelta(seconds=seconds)
        read(operation.engine.connection, dto(status="stopped", **MACHINE), at=at)
        operation.refresh_from_db()
        seen.append(operation.state)
    assert seen == ["working", "working", "needs_attention"]
    assert "goes on costing" in operation.note


def test_an_engine_that_was_silent_after_it_was_seen_stopping_has_stopped(asked):
    operation = put(asked(Verb.STOP, online=True), "accepted")
    states = []
    for seconds, status in enumerate(["stopping", "disconnected", "stopped"], 30):
        read(operation.engine.connection, dto(status=status, **MACHINE), at=NOW + timedelta(seconds=seconds))
        operation.refresh_from_db()
        states.append(operation.state)
    assert states == ["working", "lost_contact", "succeeded"]


@pytest.mark.parametrize("machine", [None, {"cloud": "local", "status": "deleting"}])
def test_a_machine_that_is_given_back_ends_the_stop(asked, machine):
    assert after(asked(Verb.STOP), "unknown", status="stopped", instance=machine) == State.SUCCEEDED


def test_an_engine_that_was_seen_stopping_has_stopped_whatever_its_machine_is_called(asked):
    operation = asked(Verb.STOP)
    assert after(operation, "accepted", status="stopping", **MACHINE) == State.WORKING
    at = NOW + timedelta(seconds=40)
    assert after(operation, "working", status="stopped", at=at, **MACHINE) == State.SUCCEEDED


@pytest.mark.parametrize("state", ["working", "lost_contact"])
def test_a_stop_whose_engine_was_started_anew_before_it_was_seen_stopped_asks_a_person(asked, state):
    assert after(asked(Verb.STOP, online=True), state, status="running") == State.NEEDS_ATTENTION


def test_d9_an_engine_that_went_offline_since_is_not_stopped(api, asked):
    operation = asked(Verb.STOP, online=True)
    api.engines["eng_1"] = dto(status="disconnected")
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.FAILED
    assert "went offline" in operation.note
    assert api.sent("POST", "/engines/eng_1/stop") == []


@pytest.mark.parametrize("trouble", [(500, "internal_error"), (429, "rate_limited"), "reset"])
def test_a_stop_whose_engine_cannot_be_read_is_not_sent_and_read_again(api, asked, later, trouble):
    api.trouble["GET /engines/eng_1"] = trouble
    operation = asked(Verb.STOP, online=True)
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == (State.REQUESTED, 0)
    assert "read before this is sent" in operation.note
    api.trouble.clear()
    send(str(operation.pk), operation.next_at)
    operation.refresh_from_db()
    assert (operation.state, len(api.sent("POST", "/engines/eng_1/stop"))) == (State.ACCEPTED, 1)


def test_a_stop_whose_engine_cannot_be_read_until_its_deadline_has_failed(api, asked, later):
    api.trouble["GET /engines/eng_1"] = (500, "internal_error")
    operation = asked(Verb.STOP, online=True)
    later["now"] = operation.deadline_at
    send(str(operation.pk), operation.deadline_at)
    operation.refresh_from_db()
    assert (operation.state, api.sent("POST", "/engines/eng_1/stop")) == (State.FAILED, [])


def test_an_offline_engine_that_was_shown_as_such_is_stopped(api, asked):
    operation = asked(Verb.STOP, online=False)
    api.engines["eng_1"] = dto(status="disconnected")
    send(str(operation.pk), NOW)
    assert len(api.sent("POST", "/engines/eng_1/stop")) == 1
    assert wire.ONLY_IF_CONNECTED not in api.headers["POST /engines/eng_1/stop"]


def test_d9_one_that_goes_offline_between_the_reading_and_the_stop_is_left_alone_by_an_api_that_can(api, asked):
    operation = asked(Verb.STOP, online=True)
    api.trouble["POST /engines/eng_1/stop"] = (409, "engine_offline")
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.REFUSED
    assert api.headers["POST /engines/eng_1/stop"][wire.ONLY_IF_CONNECTED] == "true"


def test_an_offline_engine_with_tasks_is_stopped_only_by_name(client_of, acme_connection, engine, ada, adas_key):
    read(acme_connection, dto(status="disconnected", busy=["task_1"]), at=NOW + timedelta(seconds=5))
    row = Engine.objects.get(uid="eng_1")
    assert post(client_of(ada), "stop", row, ada).status_code == 422
    assert post(client_of(ada), "stop", row, ada, name="gpu-2").status_code == 422
    assert Operation.objects.count() == 0
    assert post(client_of(ada), "stop", row, ada, name="gpu-1").status_code == 302


def test_a_stop_takes_the_place_of_a_drain_and_says_so_first(client_of, operation, engine, ada, adas_key):
    put(operation, "working")
    page = client_of(ada).get("/engines/eng_1/stop/").content.decode()
    assert "takes the place of a drain" in page
    assert "kernel patch" in page
    assert post(client_of(ada), "stop", engine, ada).status_code == 302
    operation.refresh_from_db()
    assert operation.state == State.SUPERSEDED
    assert Operation.objects.get(verb="stop").state == State.REQUESTED
    assert Entry.objects.filter(action="operation.superseded", actor=ada).count() == 1


def test_a_drain_that_is_being_sent_is_not_superseded(client_of, operation, engine, ada, adas_key):
    put(operation, "sending")
    assert post(client_of(ada), "stop", engine, ada).status_code == 409
    operation.refresh_from_db()
    assert operation.state == State.SENDING


def test_a_drain_does_not_take_the_place_of_a_stop(asked, client_of, engine, olga, olgas_key):
    put(asked(Verb.STOP), "working")
    assert post(client_of(olga), "drain", engine, olga).status_code == 409
    assert Operation.objects.get().verb == "stop"


# Rename and delete


def test_a_renamed_engine_has_its_name(api, asked, acme_connection):
    operation = asked(Verb.RENAME, name="rack-9")
    send(str(operation.pk), NOW)
    assert api.engines["eng_1"]["name"] == "rack-9"
    operation.refresh_from_db()
    assert after(operation, operation.state, name="rack-9") == State.SUCCEEDED


@pytest.mark.parametrize("name", ["", "gpu-1", "x" * 101, "a\x07b"])
def test_what_is_no_new_name_is_refused(client_of, engine, olga, olgas_key, name):
    assert post(client_of(olga), "rename", engine, olga, name=name).status_code == 422
    assert Operation.objects.count() == 0


def test_a_running_engine_is_not_deleted(client_of, engine, ada, adas_key):
    assert post(client_of(ada), "delete", engine, ada, name="gpu-1").status_code == 409


def test_a_stopped_engine_is_deleted_by_name(client_of, acme_connection, engine, ada, adas_key):
    read(acme_connection, dto(status="stopped"), at=NOW + timedelta(seconds=5))
    row = Engine.objects.get(uid="eng_1")
    assert post(client_of(ada), "delete", row, ada, name="gpu").status_code == 422
    assert post(client_of(ada), "delete", row, ada, name="gpu-1").status_code == 302


def test_an_engine_that_is_gone_is_deleted(api, asked):
    operation = asked(Verb.DELETE)
    del api.engines["eng_1"]
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    assert operation.state == State.ACCEPTED
    assert after(operation, "accepted", status="deleted") == State.SUCCEEDED


def test_stopping_twice_with_one_form_is_one_operation(client_of, engine, ada, adas_key):
    words = form("stop", engine, ada)
    answers = [client_of(ada).post("/engines/eng_1/stop/", words) for _ in range(2)]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert Operation.objects.count() == 1


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb not in MONEY])  # those have forms of their own
def test_every_verb_says_what_it_does_before_it_is_asked(client_of, engine, ada, adas_key, acme_connection, verb):
    status = "stopped" if verb == Verb.DELETE else "running"
    read(acme_connection, dto(status=status, **MACHINE), at=NOW + timedelta(seconds=5))
    page = client_of(ada).get(f"/engines/eng_1/{verb}/").content.decode()
    assert f"{verb.label} gpu-1" in page
    assert 'name="reason"' in page


EARLIER = {"phase": "done", "asked": "v1.0.0", "version": "v1.0.0", "error": ""}


@pytest.mark.parametrize("told", [EARLIER, EARLIER | {"phase": "current"}])
def test_what_became_of_an_earlier_update_is_no_answer_to_one_that_is_sent_again(api, asked, later, told):
    api.engines["eng_1"] = dto(update=told)
    api.trouble["POST /engines/eng_1/update"] = (429, "rate_limited")
    operation = asked(Verb.UPDATE, version="v2.0.0", **{"from": "v1.0.0"})
    send(str(operation.pk), NOW)
    operation.refresh_from_db()
    api.trouble.clear()
    send(str(operation.pk), operation.next_at)
    operation.refresh_from_db()
    assert operation.state == State.ACCEPTED
    assert api.bodies["update"] == {"version": "v2.0.0"}
