"""Tried again, and what to do with a drain that does not end: always a person's decision, always a new operation."""

import re
from datetime import timedelta

import pytest

from engines.enums import State, Verb
from engines.models import Operation
from engines.operations.decide import close
from engines.operations.moves import Decider
from engines.operations.request import request
from portal import clock
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from tests.engines.conftest import NOW, WHY, dto, put, read, wish

pytestmark = pytest.mark.django_db
PARAMETERS = {"update": {"version": "v2.0.0", "from": "v1.0.0"}, "rename": {"name": "rack-9", "from": "gpu-1"}}
MACHINE = {"instance": {"cloud": "local", "status": "active"}}


@pytest.fixture
def adas(ada, acme_connection, client_of):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    return client_of(ada)


@pytest.fixture
def ended(engine, acme_connection, olga, olgas_key):
    """Return an operation of this verb that has failed, on an engine that it could be asked of again."""

    def _ended(verb, state=State.FAILED, **changes):
        read(acme_connection, dto(status="stopped" if verb == "delete" else "running", **MACHINE), at=clock.now())
        asked = wish(verb=Verb(verb), parameters=PARAMETERS.get(verb, {}), deadline=timedelta(hours=6), **changes)
        origin = Origin(request_id="req-1", address="", role="operator")
        made = request(asked, engine=engine, user=olga, key=olgas_key, origin=origin, now=NOW)
        return put(made, state, finished_at=NOW, note="It broke.", next_at=None)

    return _ended


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def fields(page):
    """What the dialog is filled with, as a browser would send it."""
    html = page.content.decode()
    found = dict(re.findall(r'<input type="(?:hidden|text)" name="(\w+)" value="([^"]*)"', html))
    found["reason"] = re.search(r"<textarea[^>]*>([^<]*)</textarea>", html)[1].strip()
    found["deadline"] = re.search(r'<option value="(\d+)" selected', html)[1]
    return found


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb not in (Verb.EXTEND, Verb.CREATE)])
def test_every_verb_is_tried_again_as_a_new_operation_linked_to_the_old(adas, ended, verb):
    old = ended(verb)
    again = f"/engines/eng_1/{verb}/?retry_of={old.pk}"
    assert f'href="{again}"' in adas.get(f"/operations/{old.pk}/").content.decode()
    sent = fields(adas.get(again))
    assert (sent["reason"], sent["deadline"]) == ("kernel patch", "6")
    typed = {"name": "gpu-1"} if verb in ("stop", "delete") else {}
    answer = adas.post(again, sent | typed)
    new = Operation.objects.exclude(pk=old.pk).get()
    assert answer["Location"] == f"/operations/{new.pk}/"
    assert (new.retry_of, new.state, new.attempts) == (old, State.REQUESTED, 0)
    assert f'href="/operations/{old.pk}/"' in adas.get(f"/operations/{new.pk}/").content.decode()
    assert f'href="/operations/{new.pk}/"' in adas.get(f"/operations/{old.pk}/").content.decode()


@pytest.mark.parametrize(("verb", "name", "value"), [("update", "version", "v2.0.0"), ("rename", "name", "rack-9")])
def test_it_is_prefilled_with_what_was_asked_then(adas, ended, verb, name, value):
    old = ended(verb)
    assert fields(adas.get(f"/engines/eng_1/{verb}/?retry_of={old.pk}"))[name] == value


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_name_that_is_typed_to_be_sure_is_typed_again(adas, ended, verb):
    old = ended(verb)
    assert "name" not in fields(adas.get(f"/engines/eng_1/{verb}/?retry_of={old.pk}"))


@pytest.mark.parametrize("state", ["refused", "failed", "cancelled"])
def test_what_ended_without_its_effect_offers_another_try(adas, ended, state):
    assert "Try again" in words(adas.get(f"/operations/{ended('drain', state).pk}/"))


@pytest.mark.parametrize("state", ["succeeded", "superseded", "working"])
def test_what_worked_or_still_runs_offers_none(adas, ended, state):
    assert "Try again" not in words(adas.get(f"/operations/{ended('drain', state).pk}/"))


@pytest.mark.parametrize("other", ["", "no-id", "7f3c1c52-2f0e-4f43-9d0e-0a4f6a8d1b11"])
def test_an_address_that_names_nothing_is_a_plain_dialog(adas, ended, other):
    ended("drain")
    page = adas.get("/engines/eng_1/drain/", {"retry_of": other})
    assert (page.status_code, fields(page)["reason"]) == (200, "")


def test_an_operation_of_another_verb_or_one_that_is_open_is_not_linked(adas, ended):
    update = ended("update")
    assert fields(adas.get(f"/engines/eng_1/drain/?retry_of={update.pk}"))["reason"] == ""
    put(update, "working")
    assert "kernel patch" not in adas.get(f"/engines/eng_1/update/?retry_of={update.pk}").content.decode()


# A drain past its deadline


@pytest.fixture
def stuck(operation, acme_connection):
    read(acme_connection, dto(status="draining", busy=["task_1"]), at=clock.now())
    waiting = [{"task_id": "task_1", "app": "render", "worker": "gpu-1-cpu-0", "since": ""}]
    return put(operation, "stuck", progress={"idle": 1, "total": 2, "waiting": waiting})


def test_a_stuck_drain_shows_what_runs_and_every_way_on(adas, stuck):
    shown = words(adas.get(f"/operations/{stuck.pk}/"))
    for part in ("Waiting for render on gpu-1-cpu-0", "Keep waiting 2 hours", "Stop the engine…", "Stop watching…"):
        assert part in shown


def test_who_may_not_stop_is_told_so(client_of, olga, stuck):
    assert "Your role (Operator) may not stop engines." in words(client_of(olga).get(f"/operations/{stuck.pk}/"))


def test_a_stop_in_place_of_a_stuck_drain_is_typed(adas, stuck):
    page = adas.get("/engines/eng_1/stop/")
    assert "This takes the place of a drain." in words(page)
    sent = fields(page) | {"reason": "the task never ends"}
    assert adas.post("/engines/eng_1/stop/", sent).status_code == 422
    assert adas.post("/engines/eng_1/stop/", sent | {"name": "gpu-1"}).status_code == 302
    stuck.refresh_from_db()
    assert stuck.state == State.SUPERSEDED


def test_a_stop_of_an_offline_engine_lists_what_is_cut(adas, stuck, acme_connection):
    read(acme_connection, dto(status="disconnected", busy=["task_1"]), at=clock.now())
    assert "What still runs is cut: render on gpu-1-cpu-0" in words(adas.get("/engines/eng_1/stop/"))


def test_one_can_stop_watching_a_stuck_drain_and_nothing_is_sent(adas, stuck, api):
    adas.post(f"/operations/{stuck.pk}/close/", WHY)
    stuck.refresh_from_db()
    assert stuck.state == State.FAILED
    assert api.requests == []


@pytest.mark.parametrize("state", ["working", "lost_contact"])
def test_one_can_stop_watching_a_drain_that_goes_on(adas, stuck, api, state):
    put(stuck, state)
    assert "Stop watching" in words(adas.get(f"/operations/{stuck.pk}/"))
    adas.post(f"/operations/{stuck.pk}/close/", WHY)
    stuck.refresh_from_db()
    assert (stuck.state, api.requests) == (State.FAILED, [])
    assert "The engine was not told, and goes on." in stuck.note


@pytest.mark.parametrize(
    ("state", "said"), [("accepted", "The engine was not told"), ("unknown", "Whether the engine got it is not known")]
)
def test_what_an_api_that_is_never_read_again_leaves_open_is_ended_by_a_person(adas, stuck, api, state, said):
    put(stuck, state)
    assert "Stop watching" in words(adas.get(f"/operations/{stuck.pk}/"))
    assert ("not known: look at the engine" in words(adas.get(f"/operations/{stuck.pk}/close/"))) is (
        state == "unknown"
    )
    assert close_as(adas, stuck) == State.FAILED
    assert (said in stuck.note, api.requests) == (True, [])


@pytest.mark.parametrize("state", ["requested", "sending", "waiting", "succeeded"])
def test_what_was_not_sent_or_is_over_cannot_be_left_unwatched(adas, stuck, state):
    put(stuck, state)
    assert "Stop watching" not in words(adas.get(f"/operations/{stuck.pk}/"))
    assert close_as(adas, stuck) == state


def close_as(person, operation):
    person.post(f"/operations/{operation.pk}/close/", WHY)
    operation.refresh_from_db()
    return operation.state


def test_a_machine_that_was_ordered_is_watched_whatever_somebody_says(stuck, ada):
    put(stuck, "working", verb="create")
    with pytest.raises(ValueError, match="offer"):
        close(stuck, by=Decider(ada, Origin()), now=NOW)


def test_waiting_on_sets_a_new_deadline(adas, stuck):
    adas.post(f"/operations/{stuck.pk}/keep-waiting/", WHY)
    stuck.refresh_from_db()
    assert stuck.state == State.WORKING
    assert stuck.deadline_at > clock.now() + timedelta(minutes=119)
