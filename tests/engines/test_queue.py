"""One operation may be queued behind another: it is sent when that one has ended and the engine can be asked."""

import re
import threading
import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from engines import bulk
from engines.enums import OPEN, State, Verb
from engines.models import Change, Engine, Operation
from engines.operations.alarms import alarming
from engines.operations.decide import close
from engines.operations.moves import Decider, hold, move, move_all
from engines.operations.queue import release
from engines.operations.request import Busy, request
from engines.operations.sweep import due
from engines.operations.verbs import VERBS
from portal import clock
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from tests.engines.conftest import NOW, dto, put, read, state_of, sweep, wish

pytestmark = pytest.mark.django_db
WEEK = {"patience_hours": 168, "deadline_hours": 2}
TO_STABLE = WEEK | {"version": "stable", "from": "v1.0.0"}
ORIGIN = Origin(request_id="req-1", address="10.0.0.9", role="operator")
UPDATE, DRAIN = "POST /engines/eng_1/update", "POST /engines/eng_1/drain"


@pytest.fixture
def operation(api, operation):
    """The operation, with its key sealed for the address of `api`."""
    return operation


@pytest.fixture
def draining(api, operation, acme_connection):
    """A drain of Olga's, under way."""
    api.engines["eng_1"] = dto(status="draining", busy=["task_1"])
    read(acme_connection, api.engines["eng_1"], at=NOW + timedelta(seconds=1))
    return put(operation, "working")


@pytest.fixture
def ask(api, engine, olga, olgas_key):
    def _ask(verb=Verb.UPDATE, parameters=TO_STABLE, **changes):
        row = Engine.objects.get(pk=engine.pk)
        about = {"engine": row, "user": olga, "key": olgas_key, "origin": ORIGIN, "now": clock.now()}
        return request(wish(verb=Verb(verb), parameters=parameters, **changes), **about)

    return _ask


@pytest.fixture
def queued(draining, ask):
    return ask()


@pytest.fixture
def olgas(olga, olgas_key, client_of):
    return client_of(olga)


@pytest.fixture
def adas(ada, acme_connection, client_of):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    return client_of(ada)


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def form(page, **more):
    ticket = re.search(r'name="ticket" value="([^"]+)"', page.content.decode())[1]
    return {"reason": "new release", "deadline": "6", "ticket": ticket, **more}


def now_is(api, held, status, **more):
    """Let the engine be in that state, and have it read; what has ended lets go of what is behind it first."""
    api.engines["eng_1"] = dto(status=status, **more)
    for _ in range(3):
        sweep(held, seconds=3)


# D7


def test_d7_an_update_queued_behind_a_drain_is_sent_once_the_engine_is_back(draining, olgas, api, held):
    page = olgas.get("/engines/eng_1/update/")
    assert "Waits until the drain (asked by Olga) is finished, then until the engine runs." in words(page)
    assert "Queue update of gpu-1" in words(page)
    assert olgas.post("/engines/eng_1/update/", form(page, version="stable", patience="24")).status_code == 302
    update = Operation.objects.get(verb="update")
    assert (update.state, update.behind, update.next_at) == (State.WAITING, draining, None)
    now_is(api, held, "draining", busy=["task_1"])
    assert (state_of(update), update.is_queued) == (State.WAITING, True)
    now_is(api, held, "stopped")
    assert (state_of(draining), state_of(update), update.is_queued) == (State.SUCCEEDED, State.WAITING, False)
    assert update.next_at - update.released_at == timedelta(hours=24)
    now_is(api, held, "disconnected")
    assert (state_of(update), api.sent(*UPDATE.split())) == (State.WAITING, [])
    now_is(api, held, "running")
    assert state_of(update) == State.ACCEPTED
    assert api.requests.count(UPDATE) == 1
    assert update.deadline_at - update.released_at > timedelta(hours=6)


def test_d7_an_update_behind_a_drain_is_never_sent_to_an_engine_that_is_gone(draining, queued, api, held):
    now_is(api, held, "stopped")
    del api.engines["eng_1"]
    for _ in range(3):
        sweep(held, seconds=20)
    assert state_of(queued) == State.CANCELLED
    assert queued.note == "The API no longer knows the engine. Nothing was sent."
    assert UPDATE not in api.requests


def test_d7_nor_does_it_wait_for_one_that_was_gone_before_the_drain_was_closed(draining, queued, olga, api, held):
    del api.engines["eng_1"]
    for _ in range(3):
        sweep(held, seconds=20)
    draining.refresh_from_db()
    close(draining, by=Decider(olga, ORIGIN), now=clock.now())
    sweep(held, seconds=20)
    assert state_of(queued) == State.CANCELLED
    assert queued.note == "The API no longer knows the engine. Nothing was sent."
    assert Entry.objects.filter(action="operation.cancelled", operation_id=str(queued.pk)).count() == 1


def test_d7_nor_to_one_that_does_not_come_back_in_time(draining, queued, api, held):
    now_is(api, held, "stopped")
    sweep(held, days=7)
    assert state_of(queued) == State.CANCELLED
    assert "did not come back in time, so nothing was sent" in queued.note
    now_is(api, held, "running")
    assert UPDATE not in api.requests


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks the whole file")
@pytest.mark.django_db(transaction=True)
def test_it_is_queued_while_the_first_is_held_to_be_moved_and_neither_waits_for_the_other(draining, ask):
    def queue():
        ask()
        connection.close()

    other = threading.Thread(target=queue)
    with transaction.atomic():
        hold([draining])
        other.start()
        other.join(5)
        assert not other.is_alive()
        move_all([draining], State.SUCCEEDED, now=NOW)
    assert Operation.objects.get(verb="update").behind == draining


# How the first one ends


@pytest.mark.parametrize("end", sorted(set(State) - OPEN - {State.SUPERSEDED}))
def test_however_the_first_has_ended_it_is_sent_to_an_engine_that_runs(operation, ask, api, held, end):
    update = ask()
    put(operation, end, finished_at=NOW)
    now_is(api, held, "running")
    assert state_of(update) == State.ACCEPTED
    assert api.requests.count(UPDATE) == 1


@pytest.mark.parametrize("state", sorted(OPEN))
def test_while_the_first_is_open_nothing_moves_it(operation, ask, engine, held, state):
    update = ask()
    put(operation, state, parameters=WEEK)
    release(str(update.pk), NOW)
    read(engine.connection, dto(), at=NOW + timedelta(seconds=5))
    assert (state_of(update), update.is_queued) == (State.WAITING, True)


def test_what_is_sent_behind_a_drain_that_was_closed_waits_until_it_is_really_over(draining, queued, olga, api, held):
    close(draining, by=Decider(olga, ORIGIN), now=NOW)
    now_is(api, held, "draining")
    assert (state_of(queued), queued.is_queued) == (State.WAITING, False)
    assert UPDATE not in api.requests


def test_it_says_how_the_first_has_ended(draining, queued, api, held):
    now_is(api, held, "stopped")
    texts = list(queued.moments.values_list("state", "text"))
    assert texts[-1] == (
        "waiting",
        "Drain gpu-1 has ended: succeeded. It is sent as soon as the engine can be asked.",
    )
    assert texts[0][0] == "requested"


@pytest.mark.parametrize("together", [False, True])
def test_it_is_woken_after_the_commit_that_ends_the_first(
    draining, queued, together, monkeypatch, django_capture_on_commit_callbacks
):
    woken = []
    monkeypatch.setattr("portal.wake._send", lambda task, arguments: woken.append((task.name, arguments)))
    with django_capture_on_commit_callbacks(execute=True):
        if together:
            move_all([draining], State.SUCCEEDED, now=NOW)
        else:
            move(draining, State.SUCCEEDED, now=NOW)
    assert woken == [("engines.release", (str(queued.pk),))]


def test_of_two_workers_one_lets_it_go(draining, queued):
    put(draining, "succeeded", finished_at=NOW)
    jobs = [job for job in due(NOW) if job.func == release]
    assert len(jobs) == 1
    for _ in range(2):
        jobs[0]()
    assert queued.moments.filter(state=State.WAITING).count() == 1


def test_two_that_look_at_the_same_moment_let_it_go_once(draining, queued):
    put(draining, "succeeded", finished_at=NOW)
    slow = Operation.objects.get(pk=queued.pk)
    release(str(queued.pk), NOW)
    with pytest.raises(Exception, match=str(queued.pk)):
        move(slow, State.WAITING, now=NOW, released_at=NOW)


def slipped_in(queued):
    """A restart that was asked for in the moment between the end of the first and this."""
    other = Operation.objects.get(pk=queued.pk)
    other.pk, other.verb, other.state, other.behind = wish().id, "restart", "working", None
    other.save(force_insert=True)
    return other


def test_what_was_asked_before_it_was_let_go_comes_first(draining, queued):
    put(draining, "succeeded", finished_at=NOW)
    other = slipped_in(queued)
    release(str(queued.pk), NOW)
    assert (queued.refresh_from_db(), queued.is_queued, queued.behind) == (None, True, other)
    assert "Restart gpu-1" in queued.note
    put(other, "succeeded", finished_at=NOW)
    release(str(queued.pk), NOW)
    assert (queued.refresh_from_db(), queued.is_queued) == (None, False)


def test_what_is_asked_in_that_very_moment_comes_first_too(draining, queued, monkeypatch):
    put(draining, "succeeded", finished_at=NOW)
    monkeypatch.setattr("engines.operations.queue.blocker", lambda *_: None)
    slipped_in(queued)
    release(str(queued.pk), NOW)
    assert (queued.refresh_from_db(), queued.is_queued) == (None, True)


# Beside the checks of every send


def test_who_may_no_longer_update_has_it_ended_before_it_is_sent(draining, queued, olga, acme, api, held):
    olga.memberships.filter(team=acme).update(role="viewer")
    now_is(api, held, "stopped")
    now_is(api, held, "running")
    assert state_of(queued) == State.CANCELLED
    assert UPDATE not in api.requests


def test_an_engine_that_is_back_with_another_version_was_not_updated_by_that(draining, queued, api, held):
    now_is(api, held, "stopped")
    now_is(api, held, "running", engine_version="v2.0.0")
    now_is(api, held, "running", engine_version="v2.0.0")
    assert state_of(queued) == State.ACCEPTED
    now_is(api, held, "running", engine_version="v3.0.0")
    assert (state_of(queued), queued.note) == (State.SUCCEEDED, "It runs v3.0.0 now; it was v2.0.0.")


def test_offline_again_before_it_is_sent_it_waits_on_from_when_it_was_let_go(draining, queued, api, held):
    sweep(held, days=2)
    now_is(api, held, "stopped")
    assert state_of(queued) == State.WAITING
    end = queued.next_at
    api.trouble[UPDATE] = (409, "engine_offline")
    api.engines["eng_1"] = dto()
    for _ in range(2):
        sweep(held, seconds=3)
    assert (state_of(queued), queued.next_at) == (State.WAITING, end)


def test_its_engine_is_read_no_more_often_for_it(draining, queued, api, held):
    read_at = "GET /engines/eng_1"
    held.advance(seconds=3)
    draining.connection.__class__.objects.update(refreshed_at=clock.now())
    sweep(held, seconds=0)
    assert api.requests.count(read_at) == 1


def test_what_the_engine_does_meanwhile_is_the_first_one_s_doing(draining, ask, acme_connection):
    ask(id=uuid.UUID(int=0))
    read(acme_connection, dto(status="stopped"), at=NOW + timedelta(seconds=10))
    assert Change.objects.latest("pk").operation == draining


def test_nothing_alarms_while_it_is_queued(draining, queued, acme):
    put(draining, "needs_attention")
    Operation.objects.update(moved_at=NOW - timedelta(days=30))
    assert list(alarming(acme, NOW)) == [draining]


# What may be queued behind what

QUEUES = {
    "update": {"drain", "restart"},
    "drain": {"update", "restart"},
    "rename": {"drain", "update", "restart", "stop"},
}


@pytest.mark.parametrize("asked", [verb for verb in Verb if verb not in ("extend", "create")])
@pytest.mark.parametrize("first", ["drain", "update", "restart", "stop", "rename", "delete"])
def test_what_may_be_queued_behind_what(ask, first, asked):
    before = put(ask(first, {}), "working")
    if asked == "stop" and first in ("drain", "update"):
        assert ask(asked, WEEK).behind is None
    elif first in QUEUES.get(asked, ()):
        assert ask(asked, WEEK | {"name": "gpu-9"}).behind == before
    else:
        with pytest.raises(Busy):
            ask(asked, WEEK)


def test_nothing_is_queued_that_does_not_say_for_how_long_it_may_wait(draining, ask):
    with pytest.raises(Busy):
        ask("update", {"version": "stable"})


@pytest.mark.parametrize("verb", ["update", "rename", "drain", "restart"])
def test_a_second_one_is_not_queued(queued, ask, verb):
    with pytest.raises(Busy):
        ask(verb, WEEK)


def test_the_database_lets_one_be_queued_and_one_be_open(draining, queued):
    for changes in ({}, {"behind": None}):
        other = Operation.objects.get(pk=queued.pk)
        other.pk, other.behind = wish().id, changes.get("behind", draining)
        with pytest.raises(IntegrityError), transaction.atomic():
            other.save(force_insert=True)


def test_time_is_bought_for_its_machine_all_the_same(draining, ask):
    ask("rename", WEEK | {"name": "gpu-9"})
    assert ask("extend", {}).state == State.REQUESTED


def test_a_name_that_was_queued_needs_no_engine_that_runs(draining, ask, api, held):
    rename = ask("rename", WEEK | {"name": "gpu-9"})
    now_is(api, held, "stopped")
    assert state_of(rename) in (State.ACCEPTED, State.SUCCEEDED)
    assert api.engines["eng_1"]["name"] == "gpu-9"


def test_a_drain_is_queued_behind_an_update(ask, api, held):
    update = put(ask("update", {"version": "stable", "from": "v1.0.0"}), "working")
    drain = ask("drain", WEEK)
    now_is(api, held, "restarting")
    assert (state_of(update), drain.is_queued) == (State.WORKING, True)
    now_is(api, held, "running", engine_version="v1.1.0")
    sweep(held, seconds=3)
    assert (state_of(update), state_of(drain)) == (State.SUCCEEDED, State.WORKING)
    assert api.requests.count(DRAIN) == 1


# A stop takes the place of both


def test_a_stop_takes_the_place_of_what_is_queued_too_and_says_so_first(draining, queued, adas, ada):
    page = adas.get("/engines/eng_1/stop/")
    assert "This takes the place of a drain." in words(page)
    assert "This takes the place of a queued update." in words(page)
    assert adas.post("/engines/eng_1/stop/", form(page)).status_code == 302
    assert (state_of(draining), state_of(queued)) == (State.SUPERSEDED, State.SUPERSEDED)
    assert queued.note == "Ada asked for a stop instead."
    assert Entry.objects.filter(action="operation.superseded", actor=ada).count() == 2


def test_a_queued_rename_does_not_hold_up_a_stop(draining, ask):
    rename = ask("rename", WEEK | {"name": "gpu-9"})
    ask("stop", {})
    assert state_of(rename) == State.SUPERSEDED


def test_a_stop_of_many_takes_its_place_too(draining, ask, adas):
    queued = ask("rename", WEEK | {"name": "gpu-9"})
    plan = adas.get("/engines/many/stop/?uid=eng_1")
    said = form(plan, typed="stop 1", despite="on")
    assert adas.post("/engines/many/stop/?uid=eng_1", said).status_code == 302
    assert (state_of(draining), state_of(queued)) == (State.SUPERSEDED, State.SUPERSEDED)


def test_a_stop_of_many_names_what_it_takes_the_place_of(draining, ask, adas, acme_connection):
    ask("rename", WEEK | {"name": "gpu-9"})
    read(acme_connection, dto(uid="eng_2", name="gpu-8"))
    page = adas.get("/engines/many/stop/?uid=eng_1&uid=eng_2").content.decode()
    note = " ".join(re.sub(r"<[^>]+>", " ", page.split("This takes the place of")[1].split("</ul>")[0]).split())
    assert note.startswith("2 operations.")
    name = draining.engine.name
    found = re.findall(r"(\S+): ([a-z ]+) , asked by (\w+)", note)
    assert found == [(name, "drain", "Olga"), (name, "queued rename", "Olga")]
    assert draining.reason in note


def test_a_stop_of_one_of_many_that_ended_meanwhile_is_agreed_to_anew(draining, adas):
    page = adas.get("/engines/many/stop/?uid=eng_1")
    put(draining, "succeeded")
    answer = adas.post("/engines/many/stop/?uid=eng_1", form(page, typed="stop 1", despite="on"))
    assert answer.status_code == 422
    assert "with the drain that" in answer.content.decode()
    assert not Operation.objects.filter(verb="stop").exists()


def test_a_stop_of_many_leaves_what_is_queued_where_the_first_is_sent_in_that_moment(
    draining, queued, adas, monkeypatch
):
    put(draining, "requested")
    plan = adas.get("/engines/many/stop/?uid=eng_1")
    begun = bulk.superseded

    def sent_meanwhile(*about):
        found = begun(*about)
        put(draining, "sending")
        return found

    monkeypatch.setattr("engines.bulk.superseded", sent_meanwhile)
    assert adas.post("/engines/many/stop/?uid=eng_1", form(plan, typed="stop 1", despite="on")).status_code == 302
    assert (state_of(draining), state_of(queued)) == (State.SENDING, State.WAITING)
    assert not Operation.objects.filter(verb="stop").exists()


def test_a_stop_holds_both_before_it_moves_one_of_them(draining, queued, ask, monkeypatch):
    done = []
    monkeypatch.setattr("engines.operations.request.hold", lambda rows: done.append({row.pk for row in rows}))
    monkeypatch.setattr(
        "engines.operations.request.move", lambda row, *_, **said: done.append(row.pk) or move(row, *_, **said)
    )
    ask("stop", {})
    assert done[0] == {draining.pk, queued.pk}
    assert set(done[1:]) == done[0]


def test_what_was_queued_behind_one_that_is_superseded_at_that_moment_is_too(draining, queued):
    put(draining, "superseded", finished_at=NOW)
    release(str(queued.pk), NOW)
    assert state_of(queued) == State.SUPERSEDED
    assert queued.note == "Drain gpu-1 was superseded, and with it what waited behind it."


# Pages


def test_it_is_seen_everywhere_what_waits_behind_what(draining, queued, olgas):
    assert "then update by Olga" in words(olgas.get("/engines/"))
    for page in ("/engines/eng_1/", f"/operations/{draining.pk}/"):
        shown = olgas.get(page)
        assert "Then update , asked by Olga: kernel patch" in words(shown)
        assert f'href="/operations/{queued.pk}/"' in shown.content.decode()
    own = olgas.get(f"/operations/{queued.pk}/")
    assert "Queued for" in words(own)
    assert "Waits until Drain gpu-1, asked by Olga, is finished." in words(own)
    assert f'href="/operations/{draining.pk}/"' in own.content.decode()
    assert "Then waits for the engine, 7 days at most" in words(own)
    assert "Queued Waits until Drain gpu-1, asked by Olga, is finished." in words(olgas.get("/operations/?state=open"))


def test_the_log_says_what_it_was_queued_behind(queued):
    said = Entry.objects.get(action="engine.update").detail
    assert said["note"] == "Waits until Drain gpu-1, asked by Olga, is finished."


def test_the_engine_shows_what_is_under_way_not_what_is_queued(draining, queued, olgas):
    under_way = olgas.get("/engines/eng_1/").content.decode().split('aria-label="Operation under way"')[1]
    assert under_way.index("<h2>Drain</h2>") > 0


def test_the_menu_offers_to_queue(draining, olgas):
    shown = words(olgas.get("/engines/eng_1/"))
    assert "Queue update…" in shown
    assert "Queue rename…" in shown


def test_the_menu_says_that_one_is_queued_already(queued, olgas):
    shown = words(olgas.get("/engines/eng_1/"))
    assert "Rename… Drain by Olga is under way, and update by Olga waits behind it." in shown
    assert "Restart… Drain by Olga is under way. " in shown


def test_it_can_be_cancelled_while_it_is_queued(draining, queued, adas, ada, api, held):
    assert "Cancel" in words(adas.get(f"/operations/{queued.pk}/"))
    adas.post(f"/operations/{queued.pk}/cancel/", {"reason": "not now"})
    assert (state_of(queued), state_of(draining)) == (State.CANCELLED, State.WORKING)
    shown = words(adas.get(f"/operations/{queued.pk}/"))
    assert "Sent never" in shown
    assert "Deadline" not in shown
    now_is(api, held, "running")
    assert UPDATE not in api.requests


def test_a_dialog_that_was_opened_before_says_what_it_waits_for_now(engine, api, olgas, operation, acme_connection):
    put(operation, "cancelled", finished_at=NOW)
    page = olgas.get("/engines/eng_1/rename/")
    put(operation, "sending", finished_at=None)
    answer = olgas.post("/engines/eng_1/rename/", form(page, name="gpu-9"))
    assert answer.status_code == 409
    assert "What it waits for has changed: now it is the drain that Olga asked for: kernel patch." in words(answer)
    assert "Queue rename of gpu-1" in words(answer)
    again = form(answer, name="gpu-9")
    assert olgas.post("/engines/eng_1/rename/", again).status_code == 302
    assert Operation.objects.get(verb="rename").is_queued


def test_and_one_that_would_wait_for_what_has_ended_meanwhile_too(draining, olgas, acme_connection):
    page = olgas.get("/engines/eng_1/rename/")
    read(acme_connection, dto(status="stopped"), at=NOW + timedelta(seconds=10))
    answer = olgas.post("/engines/eng_1/rename/", form(page, name="gpu-9"))
    assert answer.status_code == 409
    assert "What it waits for has changed: nothing is under way any more." in words(answer)
    assert olgas.post("/engines/eng_1/rename/", form(answer, name="gpu-9")).status_code == 302
    assert Operation.objects.get(verb="rename").state == State.REQUESTED


@pytest.mark.parametrize("let_go", [False, True])
def test_asked_twice_with_one_form_it_is_one_operation(draining, olgas, let_go):
    said = form(olgas.get("/engines/eng_1/update/"), version="stable", patience="24")
    first = olgas.post("/engines/eng_1/update/", said)["Location"]
    if let_go:
        move(draining, State.SUCCEEDED, now=NOW)
        release(str(Operation.objects.get(verb="update").pk), NOW)
    assert olgas.post("/engines/eng_1/update/", said)["Location"] == first
    assert Operation.objects.filter(verb="update").count() == 1


def test_many_at_once_are_not_queued(draining, olgas):
    assert "Drain by Olga is under way." in words(olgas.get("/engines/many/update/?uid=eng_1"))


def test_every_verb_that_can_be_queued_can_be_asked_for_in_a_dialog(draining, olgas):
    for verb in [verb for verb in Verb if "drain" in VERBS[verb].queues_behind]:
        assert f"Queue {verb} of gpu-1" in words(olgas.get(f"/engines/eng_1/{verb}/"))
