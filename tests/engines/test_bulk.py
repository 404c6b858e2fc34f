"""Many engines at once: a plan first, a guard for what must go on running, one outcome for each."""

import re

import pytest

from engines.models import Batch, Engine, Operation
from portal.audit.models import Entry
from tests.engines.conftest import dto, read

PATH = "/engines/many/drain/"
A100 = {"gpus": [{"name": "A100", "vram": 80}]}


@pytest.fixture
def fleet(acme_connection, olgas_key):
    """Ten running engines without GPUs, one that is offline, one that drains already."""
    rows = [dto(uid=f"eng_{n}", name=f"cpu-{n}", busy=["task_1"] if n < 3 else ()) for n in range(10)]
    rows += [dto(uid="eng_off", name="off", status="disconnected"), dto(uid="eng_d", name="going", status="draining")]
    read(acme_connection, *rows)


@pytest.fixture
def olgas(client_of, olga):
    return client_of(olga)


def ask(olgas, query, **words):
    """Look at the plan and confirm it; return the answer."""
    page = olgas.get(PATH + query).content.decode()
    found = re.search(r'name="ticket" value="([^"]+)"', page)
    return olgas.post(PATH + query, {"reason": "kernel patch", "deadline": "2", "ticket": found[1], **words})


def few(*names):
    return "?" + "&".join(f"uid=eng_{name}" for name in names)


def test_the_plan_says_who_is_asked_who_is_not_and_why(olgas, fleet):
    page = olgas.get(PATH + few(0, 1, "off", "d")).content.decode()
    assert "2 will be asked" in page
    assert "2 running tasks are finished first" in page
    assert "The engine is offline" in page
    assert "The engine is draining already" in page


def test_each_engine_gets_an_operation_with_the_reason(olgas, fleet, olga):
    answer = ask(olgas, few(0, 1, 2))
    batch = Batch.objects.get()
    assert answer["Location"] == f"/batches/{batch.pk}/"
    rows = Operation.objects.filter(batch=batch)
    assert sorted(row.engine_name for row in rows) == ["cpu-0", "cpu-1", "cpu-2"]
    assert {(row.reason, row.requested_by, row.state) for row in rows} == {("kernel patch", olga, "requested")}


def test_those_that_are_not_asked_are_kept_with_the_reason(olgas, fleet):
    ask(olgas, few(0, "off"))
    assert [row["name"] for row in Batch.objects.get().not_asked] == ["off"]
    page = olgas.get(f"/batches/{Batch.objects.get().pk}/").content.decode()
    assert "off" in page
    assert "offline" in page


def test_all_that_a_filter_shows_are_taken(olgas, fleet):
    ask(olgas, "?all=1&q=cpu-1")
    assert [row.engine_name for row in Operation.objects.all()] == ["cpu-1"]


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
    assert "4 of 11 running engines" in olgas.get(PATH + few(2, 3)).content.decode()


def test_the_last_engine_of_a_gpu_type_needs_a_word(olgas, fleet, acme_connection):
    read(acme_connection, *[_gpu(n) for n in range(2)])
    page = olgas.get(PATH + "?uid=gpu_0&uid=gpu_1").content.decode()
    assert "A100: no running engine is left, of 2" in page
    assert ask(olgas, "?uid=gpu_0").status_code == 302


def _gpu(number):
    worker = {
        "id": "w",
        "index": 0,
        "status": "idle",
        "task_id": None,
        "gpus": [{"name": "A100", "vram": 80 * 1024**3}],
    }
    return dto(uid=f"gpu_{number}", name=f"gpu-{number}") | {"workers": [worker]}


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
    olgas.post(f"/batches/{Batch.objects.get().pk}/stop/")
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
    page = client_of(mallory).get(PATH + few(0, 1)).content.decode()
    assert "No engine is selected" in page
    assert "cpu-0" not in page


def test_somebody_who_may_not_drain_is_refused(client_of, victor, fleet):
    assert client_of(victor).get(PATH + few(0)).status_code == 403


def test_the_list_offers_it_to_those_who_may(olgas, client_of, victor, fleet):
    assert 'name="uid" value="eng_0"' in olgas.get("/engines/").content.decode()
    assert "Drain selected" not in client_of(victor).get("/engines/").content.decode()
