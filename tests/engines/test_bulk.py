"""Many engines at once: a plan first, a guard for what must go on running, one outcome for each."""

import re
from datetime import timedelta
from html import unescape

import pytest

from engines.bulk import outcomes
from engines.enums import State
from engines.models import Batch, Engine, Operation
from engines.operations import turns
from engines.operations.moves import Decider, move, move_all
from engines.operations.send import send
from portal import clock
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.audit.verify import verify
from portal.vault.keys import Secret, store
from portal.vault.models import StoredKey
from tests.engines.conftest import NOW, WHY, dto, read

PATH = "/engines/many/drain/"


@pytest.fixture
def fleet(acme_connection, olgas_key):
    """Ten running engines without GPUs, one that is offline, one that drains already."""
    rows = [dto(uid=f"eng_{n}", name=f"cpu-{n}", busy=["task_1"] if n < 3 else ()) for n in range(10)]
    rows += [dto(uid="eng_off", name="off", status="disconnected"), _gpu("d", gpu="H100", status="draining")]
    read(acme_connection, *rows)


@pytest.fixture
def olgas(client_of, olga):
    return client_of(olga)


def ask(olgas, query, verb="drain", **words):
    """Look at the plan and confirm it; return the answer."""
    path = f"/engines/many/{verb}/{query}"
    page = olgas.get(path).content.decode()
    found = re.search(r'name="ticket" value="([^"]+)"', page)
    words = {"reason": "kernel patch", "deadline": "2", "ticket": unescape(found[1]), **words}
    return olgas.post(path, words)


def few(*names):
    return "?" + "&".join(f"uid=eng_{name}" for name in names)


def test_the_plan_says_who_is_asked_who_is_not_and_why(olgas, fleet):
    page = olgas.get(PATH + few(0, 1, "off") + "&uid=gpu_d").content.decode()
    assert "2 will be asked" in page
    assert "2 running tasks: finished first" in page
    assert "The engine is offline" in page
    assert "The engine is draining already" in page


def test_each_engine_gets_an_operation_with_the_reason(olgas, fleet, olga):
    answer = ask(olgas, few(0, 1, 2))
    batch = Batch.objects.get()
    assert answer["Location"] == f"/batches/{batch.pk}/"
    rows = Operation.objects.filter(batch=batch)
    assert sorted(row.engine_name for row in rows) == ["cpu-0", "cpu-1", "cpu-2"]
    assert {(row.reason, row.requested_by, row.state) for row in rows} == {("kernel patch", olga, "requested")}


def test_a_plan_of_nobody_is_no_batch(olgas, fleet):
    assert ask(olgas, few("off")).status_code == 409
    assert Batch.objects.count() == 0


def test_a_plan_that_selects_none_says_how_to_and_counts_nothing(olgas, fleet):
    page = olgas.get(PATH).content.decode()
    assert "No engine is selected" in page
    assert "Drain 0 engines" not in page
    assert "0 will be asked" not in page


def test_those_that_are_not_asked_are_kept_with_the_reason(olgas, fleet):
    ask(olgas, few(0, "off"))
    assert [row["name"] for row in Batch.objects.get().not_asked] == ["off"]
    page = olgas.get(f"/batches/{Batch.objects.get().pk}/").content.decode()
    assert "off" in page
    assert "offline" in page


def test_all_that_a_filter_shows_are_taken(olgas, fleet):
    ask(olgas, "?all=1&q=cpu-1")
    assert [row.engine_name for row in Operation.objects.all()] == ["cpu-1"]


@pytest.mark.parametrize("wrong", ["cloud=nowhere", "operation=x", f"gpu={'x' * 61}", f"q={'x' * 101}"])
def test_a_filter_that_cannot_be_used_does_not_select_all_there_are(olgas, fleet, wrong):
    page = olgas.get(f"{PATH}?all=1&{wrong}").content.decode()
    assert "No engine is selected" in page
    assert "One of the filters cannot be used: " in page
    assert ask(olgas, f"?all=1&{wrong}").status_code == 409


def test_the_same_form_twice_is_one_batch(olgas, fleet):
    page = olgas.get(PATH + few(0)).content.decode()
    words = {"reason": "r", "deadline": "2", "ticket": re.search(r'name="ticket" value="([^"]+)"', page)[1]}
    first, second = (olgas.post(PATH + few(0), words) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert (Batch.objects.count(), Operation.objects.count()) == (1, 1)


def test_a_third_of_a_pool_needs_a_word(olgas, fleet):
    assert ask(olgas, few(0, 1, 2, 3)).status_code == 422
    assert Operation.objects.count() == 0
    assert ask(olgas, few(0, 1, 2, 3), despite="on").status_code == 302
    assert Operation.objects.count() == 4


def test_less_than_that_needs_none(olgas, fleet):
    assert ask(olgas, few(0, 1, 2)).status_code == 302


def test_what_drains_already_counts_as_gone(olgas, fleet):
    ask(olgas, few(0, 1))
    page = olgas.get(PATH + few(2, 3)).content.decode()
    assert "4 of 10 running engines at once, with the 2 that went before." in page


def test_the_last_engine_of_a_gpu_type_needs_a_word(olgas, fleet, acme_connection):
    read(acme_connection, *[_gpu(n) for n in range(2)])
    page = olgas.get(PATH + "?uid=gpu_0&uid=gpu_1").content.decode()
    assert "A100: no running engine is left, of 2" in page
    assert ask(olgas, "?uid=gpu_0&uid=gpu_1").status_code == 422


@pytest.mark.parametrize(("running", "free"), [(1, 0), (2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 3)])
def test_the_guard_lets_no_more_than_30_percent_go_without_a_word(olgas, fleet, acme_connection, running, free):
    read(acme_connection, *[_gpu(n) for n in range(running)])
    uids = [f"uid=gpu_{n}" for n in range(running)]
    assert ask(olgas, "?" + "&".join(uids[: free + 1])).status_code == 422
    assert Operation.objects.count() == 0
    if free:
        assert ask(olgas, "?" + "&".join(uids[:free])).status_code == 302


def test_of_a_pool_too_small_for_the_guard_none_is_taken_within_it(olgas, fleet, acme_connection):
    read(acme_connection, *[_gpu(n) for n in range(3)])
    page = olgas.get(PATH + "?uid=gpu_0&uid=eng_3&guard=keep").content.decode()
    assert "1 will be asked" in page
    assert "Left out, so that enough of its pool goes on running." in page


def _gpu(number, gpu="A100", status="running"):
    worker = {
        "id": "w",
        "index": 0,
        "status": "idle",
        "task_id": None,
        "gpus": [{"name": gpu, "vram": 80 * 1024**3}],
    }
    return dto(uid=f"gpu_{number}", name=f"gpu-{number}", status=status) | {"workers": [worker]}


def test_within_the_guard_the_idle_ones_are_taken(olgas, fleet):
    answer = ask(olgas, "?all=1&q=cpu&guard=keep")
    assert answer.status_code == 302
    assert sorted(row.engine_name for row in Operation.objects.all()) == ["cpu-3", "cpu-4", "cpu-5"]


def test_a_plan_that_has_changed_is_shown_again(olgas, fleet, acme_connection):
    page = olgas.get(PATH + few(0, 1)).content.decode()
    Engine.objects.filter(uid="eng_1").update(status="disconnected")
    words = {"reason": "r", "deadline": "2", "ticket": re.search(r'name="ticket" value="([^"]+)"', page)[1]}
    answer = olgas.post(PATH + few(0, 1), words)
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    assert "The fleet has changed" in answer.content.decode()


def test_the_rest_is_stopped_and_what_was_sent_goes_on(olgas, fleet):
    ask(olgas, few(0, 1, 2))
    Operation.objects.filter(engine__uid="eng_0").update(state="working")
    olgas.post(f"/batches/{Batch.objects.get().pk}/stop/", WHY)
    assert sorted(Operation.objects.values_list("engine__uid", "state")) == [
        ("eng_0", "working"),
        ("eng_1", "cancelled"),
        ("eng_2", "cancelled"),
    ]


def test_the_log_has_the_batch_and_each_engine(olgas, fleet):
    ask(olgas, few(0, 1, 2, 3), despite="on")
    asked = Entry.objects.exclude(action="key.stored").order_by("number")
    actions = list(asked.values_list("action", flat=True))
    assert actions == ["batch.drain", *["engine.drain"] * 4]
    assert Entry.objects.get(action="batch.drain").detail["despite_guard"] is True


def test_engines_of_another_team_are_not_selected(client_of, mallory, fleet):
    answer = client_of(mallory).get(PATH + few(0, 1))
    assert answer.status_code == 404
    assert "cpu-0" not in answer.content.decode()


def test_somebody_who_may_not_drain_is_refused(client_of, victor, fleet):
    assert client_of(victor).get(PATH + few(0)).status_code == 403


def test_the_list_offers_it_to_those_who_may(olgas, client_of, victor, fleet):
    assert 'name="uid" value="eng_0"' in olgas.get("/engines/").content.decode()
    assert "Drain selected" not in client_of(victor).get("/engines/").content.decode()


def put_all(status, *uids):
    Engine.objects.filter(uid__in=uids).update(status=status)


def plan_page(client, verb, query):
    return client.get(f"/engines/many/{verb}/{query}").content.decode()


@pytest.fixture
def adas(client_of, ada, acme_connection):
    """Ada is an admin with a key of her own."""
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    return client_of(ada)


@pytest.mark.parametrize("verb", ["update", "restart", "stop", "delete"])
def test_every_verb_asks_for_its_own(adas, fleet, acme_connection, verb):
    if verb == "delete":
        put_all("stopped", "eng_0", "eng_1")
    if verb == "restart":
        Engine.objects.update(cloud="local")
    answer = ask(adas, few(0, 1), verb=verb, typed=f"{verb} 2", version="canary", pace="all")
    assert answer.status_code == 302, answer.content.decode()
    assert set(Operation.objects.values_list("engine__uid", "verb")) == {("eng_0", verb), ("eng_1", verb)}


def test_what_a_single_operation_keeps_a_batch_keeps_too(adas, fleet):
    put_all("disconnected", "eng_1")
    ask(adas, few(0, 1), verb="stop", typed="stop 2")
    kept = dict(Operation.objects.values_list("engine__uid", "parameters"))
    assert kept == {"eng_0": {"online": True}, "eng_1": {"online": False}}


def test_an_update_keeps_the_version_it_came_from(adas, fleet):
    ask(adas, few(0), verb="update", version="v1.9.3", pace="turns")
    assert Operation.objects.get().parameters == {"version": "v1.9.3", "from": "v1.0.0"}


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_what_cannot_be_undone_is_typed(adas, fleet, verb):
    put_all("stopped" if verb == "delete" else "running", "eng_0")
    answer = ask(adas, few(0), verb=verb, typed=f"{verb} 3")
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    assert f"Type “{verb} 1”" in answer.content.decode()


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_an_operator_may_not_stop_or_delete_and_the_list_says_so(olgas, fleet, verb):
    assert olgas.get(f"/engines/many/{verb}/{few(0)}").status_code == 403
    assert "may not stop, delete" in olgas.get("/engines/").content.decode()


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_it_shows_what_it_would_cut(adas, fleet, verb):
    Engine.objects.update(cloud="local")
    put_all("disconnected", "eng_0")
    page = plan_page(adas, verb, few(0, 1))
    assert "Tasks will be cut." in page
    assert "cpu-0: 1 task<" in page
    assert "cpu-1: 1 task<" not in page


def test_a_stop_takes_the_place_of_a_drain_and_of_none_that_is_being_sent(adas, olgas, fleet):
    ask(olgas, few(0, 1))
    Operation.objects.filter(engine__uid="eng_1").update(state="sending")
    assert "something is under way already" in plan_page(adas, "stop", few(0, 1))
    ask(adas, few(0, 1), verb="stop", typed="stop 1")
    assert sorted(Operation.objects.values_list("engine__uid", "verb", "state")) == [
        ("eng_0", "drain", "superseded"),
        ("eng_0", "stop", "requested"),
        ("eng_1", "drain", "sending"),
    ]


def test_the_skipped_are_grouped_by_kind(olgas, fleet, acme_connection):
    ask(olgas, few(4))
    page = plan_page(olgas, "drain", few(3, 4, "off") + "&uid=gpu_d")
    for kind in ("1 will be skipped: offline", "not in a state for it", "something is under way already"):
        assert kind in page


def test_a_key_without_the_scope_is_no_right(olgas, fleet):
    StoredKey.objects.update(scopes=["engines:read"])
    assert "1 will be skipped: you may not" in plan_page(olgas, "drain", few(0))


def shown_then(client, query, change, verb="drain", **words):
    """Look at the plan, have the fleet change, and confirm what was shown."""
    page = plan_page(client, verb, query)
    change()
    ticket = unescape(re.search(r'name="ticket" value="([^"]+)"', page)[1])
    words = {"reason": "r", "deadline": "2", "ticket": ticket, **words}
    return client.post(f"/engines/many/{verb}/{query}", words)


def test_an_engine_that_joins_the_filter_is_named_and_not_asked(olgas, fleet, acme_connection):
    answer = shown_then(olgas, "?all=1&q=cpu-1", lambda: read(acme_connection, dto(uid="eng_n", name="cpu-10")))
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    assert "cpu-10 is new in the selection." in answer.content.decode()


def test_an_engine_that_leaves_the_filter_is_named(olgas, fleet):
    answer = shown_then(olgas, "?all=1&version=v1.0.0&q=cpu-1", lambda: Engine.objects.update(version="v2"))
    assert "cpu-1: It is not in the selection any more." in answer.content.decode()


def test_a_status_that_changed_is_told(adas, fleet):
    answer = shown_then(adas, few(0), lambda: put_all("disconnected", "eng_0"), verb="stop", typed="stop 1")
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    assert "cpu-0 was running; it is disconnected with 1 running task now." in answer.content.decode()


@pytest.mark.parametrize(("verb", "status"), [("stop", "disconnected"), ("restart", "running")])
def test_tasks_that_may_be_cut_and_began_since_are_told(adas, fleet, verb, status):
    Engine.objects.filter(uid__in=["eng_0", "eng_5"]).update(status=status, cloud="local")

    def one_more():
        Engine.objects.filter(uid="eng_0").update(workers_busy=2)

    answer = shown_then(adas, few(0, 5), one_more, verb=verb, typed=f"{verb} 2", pace="all")
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    changed = f"cpu-0 was {status} with 1 running task; it is {status} with 2 running tasks now."
    assert changed in answer.content.decode()


def test_tasks_that_are_finished_first_may_come_and_go(adas, fleet):
    more = lambda: Engine.objects.filter(uid="eng_0").update(workers_busy=2)  # noqa: E731
    assert shown_then(adas, few(0), more, verb="stop", typed="stop 1").status_code == 302


def test_the_second_of_two_who_confirm_is_told_of_the_guard(olgas, fleet):
    answer = shown_then(olgas, few(0, 1), lambda: ask(olgas, few(2, 3)))
    assert answer.status_code == 422
    assert "What the guard says has changed." in answer.content.decode()


def test_a_restart_asked_from_outside_counts_as_away(olgas, fleet, acme_connection):
    read(acme_connection, *[_gpu(n, status="draining" if n < 2 else "running") for n in range(10)])
    assert "4 of 10 running engines" in plan_page(olgas, "drain", "?uid=gpu_5&uid=gpu_6")


def test_engines_that_do_not_run_take_nothing_away(adas, fleet):
    put_all("stopped", *(f"eng_{n}" for n in range(8)))
    assert "That is a lot at once" not in plan_page(adas, "delete", few(*range(8)))


def batch_of(client, query, **words):
    answer = ask(client, query, **words)
    assert answer.status_code == 302
    return Batch.objects.get(pk=answer["Location"].split("/")[2])


def due():
    return set(Operation.objects.filter(next_at__isnull=False).values_list("engine__uid", flat=True))


def everyone(*names):
    return few(*(names or range(10)))


def test_in_turns_only_as_many_as_the_guard_allows_are_due(olgas, fleet):
    batch = batch_of(olgas, everyone(), verb="update", version="stable", pace="turns")
    assert (Operation.objects.count(), len(due()), batch.despite_guard) == (10, 3, False)
    assert due() == {"eng_3", "eng_4", "eng_5"}  # idle ones first


def test_the_next_is_due_when_one_is_back_and_not_before(olgas, fleet):
    batch = batch_of(olgas, everyone(), verb="update", version="stable", pace="turns")
    Operation.objects.filter(engine__uid="eng_3").update(state="working")
    put_all("restarting", "eng_3")
    assert turns.release(batch.pk, NOW) == 0
    Operation.objects.filter(engine__uid="eng_3").update(state="succeeded")
    put_all("running", "eng_3")
    assert turns.release(batch.pk, NOW) == 1
    assert len(due()) == 4


def test_an_engine_that_does_not_come_back_keeps_its_turn(olgas, fleet):
    batch = batch_of(olgas, everyone(), verb="update", version="stable", pace="turns")
    Operation.objects.filter(next_at__isnull=False).update(state="lost_contact")
    put_all("disconnected", "eng_3", "eng_4", "eng_5")
    assert turns.release(batch.pk, NOW) == 0


def test_two_batches_share_the_room_of_a_pool(olgas, fleet):
    batch_of(olgas, few(0, 1, 2, 3), verb="update", version="stable", pace="turns")
    batch_of(olgas, few(4, 5, 6), verb="update", version="stable", pace="turns")
    assert len(due()) == 3


def test_the_deadline_runs_from_the_turn(olgas, fleet):
    batch = batch_of(olgas, everyone(), verb="update", version="stable", pace="turns", deadline="6")
    Operation.objects.filter(next_at__isnull=False).update(state="succeeded")
    later = NOW + timedelta(days=1)
    turns.release(batch.pk, later)
    assert set(Operation.objects.filter(next_at=later).values_list("deadline_at", flat=True)) == {
        later + timedelta(hours=6)
    }


def test_one_that_waits_for_its_turn_is_not_sent(olgas, fleet):
    batch_of(olgas, everyone(), verb="update", version="stable", pace="turns")
    waiting = Operation.objects.filter(next_at__isnull=True).first()
    send(str(waiting.pk), clock.now() + timedelta(hours=1))
    waiting.refresh_from_db()
    assert (waiting.state, waiting.attempts) == ("requested", 0)


@pytest.mark.parametrize("running", [1, 2, 3])
def test_in_turns_a_pool_too_small_for_the_guard_needs_a_word_and_goes_one_at_a_time(
    olgas, fleet, acme_connection, running
):
    read(acme_connection, *[_gpu(n) for n in range(running)])
    words = {"verb": "update", "version": "stable", "pace": "turns"}
    every = "?" + "&".join(f"uid=gpu_{n}" for n in range(running))
    answer = ask(olgas, every, **words)
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    batch = batch_of(olgas, every, **words, despite="on")
    for _ in range(running):
        assert len(due()) == 1
        assert turns.release(batch.pk, NOW) == 0
        Operation.objects.filter(next_at__isnull=False).update(state="succeeded", next_at=None)
        turns.release(batch.pk, NOW)
    assert outcomes(batch) == {"succeeded": running}


MIXED = "Take engines of so small a pool, or that many at once, not in turns<"


@pytest.mark.parametrize(
    ("many", "pace", "label", "complaint"),
    [
        ("", "turns", "Take engines of so small a pool<", "engines of so small a pool may go"),
        ("", "all", "Take engines of so small a pool<", "this many may go at once"),
        ("&all=1", "turns", MIXED, "engines of so small a pool may go"),
        ("&all=1", "all", MIXED, "this many may go at once"),
    ],
)
def test_the_word_for_a_small_pool_says_what_happens_in_turns_and_at_once(
    olgas, fleet, acme_connection, many, pace, label, complaint
):
    read(acme_connection, _gpu(1), _gpu(2))
    answer = ask(olgas, "?uid=gpu_1&uid=gpu_2" + many, verb="update", version="stable", pace=pace)
    assert label in answer.content.decode()
    assert answer.context["form"].errors == {
        "despite": [f"Say that {complaint}, or take only as many as the guard allows."]
    }


def test_where_only_going_at_once_needs_a_word_it_says_so(olgas, fleet):
    assert "Take that many at once, not in turns<" in olgas.get(f"/engines/many/update/{everyone()}").content.decode()
    assert "Take that many at once<" in olgas.get(f"/engines/many/drain/{everyone()}").content.decode()


def test_in_turns_the_word_for_a_small_pool_is_none_for_a_large_one(olgas, fleet, acme_connection):
    read(acme_connection, _gpu(1))
    batch_of(olgas, everyone() + "&uid=gpu_1", verb="update", version="stable", pace="turns", despite="on")
    assert sorted(due()) == ["eng_3", "eng_4", "eng_5", "gpu_1"]


def test_all_at_once_needs_a_word_where_the_guard_objects(olgas, fleet):
    assert ask(olgas, everyone(), verb="update", version="stable", pace="all").status_code == 422
    batch_of(olgas, everyone(), verb="update", version="stable", pace="all", despite="on")
    assert len(due()) == 10


def test_one_that_may_not_be_updated_any_more_loses_its_turn_last(olgas, fleet):
    batch = batch_of(olgas, everyone(), verb="update", version="stable", pace="turns")
    Operation.objects.filter(next_at__isnull=False).update(state="succeeded")
    put_all("stopped", "eng_9")
    turns.release(batch.pk, NOW)
    assert Operation.objects.get(engine__uid="eng_9").state == "requested"
    for _ in range(2):
        Operation.objects.filter(next_at__isnull=False).update(state="succeeded")
        turns.release(batch.pk, NOW)
    last = Operation.objects.filter(state="requested", next_at__isnull=False)
    assert last.update(state="working") > 0
    turns.release(batch.pk, NOW)
    assert Operation.objects.get(engine__uid="eng_9").state == "requested"  # others are under way
    Operation.objects.filter(state="working").update(state="succeeded")
    turns.release(batch.pk, NOW)
    lost = Operation.objects.get(engine__uid="eng_9")
    assert (lost.state, "Nothing was sent" in lost.note) == ("cancelled", True)
    assert Batch.objects.get().in_turn is False


def test_what_a_worker_took_first_is_not_stopped(olgas, fleet, olga):
    batch = batch_of(olgas, few(0, 1))
    seen = list(Operation.objects.select_related("team", "engine"))
    Operation.objects.filter(engine__uid="eng_0").update(state="sending", fence=1)
    by = Decider(olga, Origin())
    assert [each.engine.uid for each in move_all(seen, State.CANCELLED, now=NOW, by=by)] == ["eng_1"]
    assert outcomes(batch) == {"sending": 1, "cancelled": 1}


def test_stopping_the_rest_of_one_in_turns_leaves_none_waiting(olgas, fleet):
    batch = batch_of(olgas, everyone(), verb="update", version="stable", pace="turns")
    olgas.post(f"/batches/{batch.pk}/stop/", WHY)
    assert outcomes(batch) == {"cancelled": 10}
    assert Batch.objects.get().in_turn is False


def test_the_page_of_a_batch_filters_by_outcome(olgas, fleet):
    batch = batch_of(olgas, few(0, 1, 2))
    Operation.objects.filter(engine__uid="eng_0").update(state="failed")
    page = olgas.get(f"/batches/{batch.pk}/?outcome=failed").content.decode()
    assert ("cpu-0" in page, "cpu-1" in page) == (True, False)


def test_what_failed_is_tried_again_in_a_batch_that_names_the_first(olgas, fleet):
    first = batch_of(olgas, few(0, 1, 2))
    Operation.objects.filter(engine__uid__in=["eng_0", "eng_1"]).update(state="failed", next_at=None)
    Operation.objects.filter(engine__uid="eng_2").update(state="working")
    assert f"/engines/many/drain/?retry={first.pk}" in olgas.get(f"/batches/{first.pk}/").content.decode()
    second = batch_of(olgas, f"?retry={first.pk}")
    assert second.retry_of == first
    assert all(each.retry_of == first.operations.get(engine=each.engine) for each in second.operations.all())
    assert set(second.operations.values_list("engine__uid", flat=True)) == {"eng_0", "eng_1"}
    assert f"/batches/{second.pk}/" in olgas.get(f"/batches/{first.pk}/").content.decode()


def test_what_was_given_up_is_tried_again_and_what_a_person_stopped_is_not(olgas, fleet, olga):
    first = batch_of(olgas, few(0, 1, 2))
    given_up, stopped = (first.operations.get(engine__uid=uid) for uid in ("eng_0", "eng_1"))
    move(given_up, State.CANCELLED, now=NOW, note="The key is gone. Nothing was sent.")
    move(stopped, State.CANCELLED, now=NOW, by=Decider(olga, Origin(), "not this one"))
    second = batch_of(olgas, f"?retry={first.pk}")
    assert [each.retry_of for each in second.operations.all()] == [given_up]


def test_a_batch_of_another_team_is_not_tried_again(olgas, client_of, mallory, fleet):
    first = batch_of(olgas, few(0))
    assert client_of(mallory).get(f"{PATH}?retry={first.pk}").status_code == 404


def test_hundreds_are_asked_in_few_statements(olgas, acme_connection, olgas_key, django_assert_max_num_queries):
    read(acme_connection, *[dto(uid=f"eng_{n}", name=f"e-{n}") for n in range(400)])
    page = plan_page(olgas, "drain", "?all=1")
    ticket = unescape(re.search(r'name="ticket" value="([^"]+)"', page)[1])
    words = {"reason": "r", "deadline": "2", "ticket": ticket, "despite": "on"}
    with django_assert_max_num_queries(60):
        assert olgas.post(PATH + "?all=1", words).status_code == 302
    assert Operation.objects.filter(state="requested").count() == 400
    assert verify(acme_connection.team)[1] is None


def test_the_guard_counts_what_only_waits_for_its_turn_as_running_when_it_is_to_be_stopped(
    client_of, ada, olgas, fleet, acme_connection
):
    ask(olgas, few(*range(10)), "update", version="stable", pace="turns")
    waiting = Operation.objects.filter(next_at__isnull=True).values_list("engine__uid", flat=True)
    assert len(waiting) == 7
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["*"])
    query = "?" + "&".join(f"uid={uid}" for uid in waiting)
    answer = ask(client_of(ada), query, "stop", typed="stop 7")
    assert answer.status_code == 422
    assert "CPU only: no running engine is left, of 10" in answer.content.decode()
    assert not Operation.objects.filter(verb="stop").exists()
