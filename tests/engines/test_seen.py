"""Compare and confirm: what is confirmed is what the dialog showed, for every verb."""

import re
import uuid
from datetime import timedelta

import pytest
from django.core import signing

from engines.enums import State, Verb
from engines.models import Engine, Operation
from engines.operations.request import request
from engines.operations.verbs import VERBS
from engines.seen import facts
from engines.tickets import Ticket
from engines.views.operate import refusal
from portal.audit.origin import Origin
from portal.vault.keys import Secret, store
from tests.engines.conftest import NOW, dto, put, read, wish

pytestmark = pytest.mark.django_db
PAID = {"cloud": "local", "status": "active", "hourly_price": 250}
MACHINE = PAID | {"auto_delete": {"date_threshold": "2026-11-25T17:00:00Z"}}
LONGER = PAID | {"auto_delete": {"date_threshold": "2026-11-26T18:00:00Z"}}
BASE = {"status": "running", "busy": ["task_1", "task_2"], "workers": 4, "instance": MACHINE}
STATUS = "When you opened this the engine was running; now it is disconnected."
MORE = "2 tasks running when you looked, 3 now."


@pytest.fixture
def adas(ada, acme_connection, client_of):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["engines:write"])
    return client_of(ada)


@pytest.fixture
def seen(acme_connection):
    """Have the engine read once more, some seconds later, with these changes."""
    seconds = iter(range(5, 1000, 5))

    def _seen(**changes):
        read(acme_connection, dto(**BASE | changes), at=NOW + timedelta(seconds=next(seconds)))
        return Engine.objects.get()

    return _seen


def form(page):
    """The fields of the dialog as a browser sends them, filled by a person who types all that is asked."""
    html = page.content.decode()
    words = {"ticket": re.search(r'name="ticket" value="([^"]+)"', html)[1], "reason": "patch", "deadline": "2"}
    typed = {"name": "new name" if "New name" in html else "gpu-1", "version": "stable"}
    return words | {name: value for name, value in typed.items() if f'name="{name}"' in html}


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


CHANGES = [
    ("drain", {}, {"busy": ["t1", "t2", "t3"]}, MORE),
    ("drain", {}, {"busy": []}, "2 tasks running when you looked, none now."),
    ("drain", {"busy": []}, {"busy": ["t1"]}, "No tasks running when you looked, 1 now."),
    (
        "drain",
        {},
        {"instance": LONGER},
        "paid until 2026-11-25 17:00 UTC when you opened this; now it is until 2026-11-26",
    ),
    ("update", {}, {"busy": ["t1", "t2", "t3"]}, MORE),
    ("update", {}, {"engine_version": "v3"}, "It ran v1.0.0 when you opened this; now it runs v3."),
    ("restart", {}, {"status": "disconnected"}, STATUS),
    ("restart", {"boot_id": "a"}, {"boot_id": "b"}, "it was started again meanwhile."),
    ("restart", {}, {"busy": ["task_1", "task_9"]}, "Other tasks run on it now than when you looked."),
    ("stop", {}, {"status": "disconnected"}, STATUS),
    ("stop", {}, {"busy": ["t1", "t2", "t3"]}, MORE),
    ("stop", {}, {"instance": LONGER}, "now it is until 2026-11-26 18:00 UTC"),
    ("stop", {"status": "disconnected"}, {"status": "disconnected", "busy": ["x", "y"]}, "Other tasks run on it now"),
    ("rename", {}, {"name": "gpu-9"}, "It was called gpu-1 when you opened this; now it is called gpu-9."),
    ("rename", {}, {"status": "disconnected"}, STATUS),
    ("delete", {"status": "stopped", "busy": []}, {"status": "pending", "busy": []}, "was stopped; now it is pending"),
    (
        "delete",
        {"status": "stopped", "busy": []},
        {"status": "stopped", "busy": [], "name": "g"},
        "now it is called g.",
    ),
]


@pytest.mark.parametrize(("verb", "before", "after", "said"), CHANGES)
def test_what_changed_since_is_said_and_nothing_is_asked(adas, seen, verb, before, after, said):
    seen(**before)
    sent = form(adas.get(f"/engines/eng_1/{verb}/"))
    seen(**after)
    answer = adas.post(f"/engines/eng_1/{verb}/", sent)
    # The typed name of what is deleted is refused first, where that is what changed.
    assert (answer.status_code, Operation.objects.count()) == (422 if "name" in after and verb == "delete" else 409, 0)
    assert said in words(answer)


@pytest.mark.parametrize(("verb", "before", "after", "said"), [each for each in CHANGES if "name" not in each[2]])
def test_one_more_click_confirms_what_is_so_now(adas, seen, verb, before, after, said):
    seen(**before)
    sent = form(adas.get(f"/engines/eng_1/{verb}/"))
    seen(**after)
    again = form(adas.post(f"/engines/eng_1/{verb}/", sent))
    assert adas.post(f"/engines/eng_1/{verb}/", again).status_code == 302
    assert Operation.objects.get().verb == verb


@pytest.mark.parametrize("after", [{"boot_id": "b"}, {"status": "disconnected"}])
def test_a_restart_that_is_sent_twice_leads_to_the_one_there_is_whatever_it_has_done(adas, seen, after):
    seen(boot_id="a")
    sent = form(adas.get("/engines/eng_1/restart/"))
    first = adas.post("/engines/eng_1/restart/", sent)
    seen(**{"boot_id": "a"} | after)
    assert adas.post("/engines/eng_1/restart/", sent)["Location"] == first["Location"]
    assert Operation.objects.get().parameters == {"boot_id": "a", "online": True}


def test_a_dialog_of_the_version_before_that_did_not_know_the_process_is_agreed_to_anew(adas, ada, seen):
    engine = seen(boot_id="a")
    sent = form(adas.get("/engines/eng_1/restart/"))
    seen_before = {name: value for name, value in facts(Verb.RESTART, engine).items() if name != "process"}
    ticket = signing.dumps([str(uuid.uuid4()), Verb.RESTART, engine.pk, ada.pk, seen_before], salt="ticket")
    assert adas.post("/engines/eng_1/restart/", sent | {"ticket": ticket}).status_code == 409
    assert Operation.objects.count() == 0


@pytest.mark.parametrize(("verb", "before", "after"), [("rename", {}, {"busy": []}), ("drain", {}, {"name": "gpu-9"})])
def test_what_does_not_matter_to_the_verb_stops_nobody(adas, seen, verb, before, after):
    seen(**before)
    sent = form(adas.get(f"/engines/eng_1/{verb}/"))
    seen(**after)
    assert adas.post(f"/engines/eng_1/{verb}/", sent).status_code == 302


def test_a_stop_that_would_end_a_drain_nobody_was_shown_is_refused(adas, seen, olga, olgas_key):
    engine = seen()
    sent = form(adas.get("/engines/eng_1/stop/"))
    drain = request(wish(), engine=engine, user=olga, key=olgas_key, origin=Origin("req", "", "operator"), now=NOW)
    put(drain, "working")
    answer = adas.post("/engines/eng_1/stop/", sent)
    assert answer.status_code == 409
    assert "now it is the drain that Olga asked for: kernel patch" in words(answer)
    drain.refresh_from_db()
    assert drain.state == State.WORKING


def test_deadlines_are_said_on_the_viewers_clock_and_in_utc(adas, seen):
    seen()
    adas.cookies["tz"] = "Europe/Berlin"
    sent = form(adas.get("/engines/eng_1/drain/"))
    seen(instance=LONGER)
    assert "now it is until Thu 26 Nov 19:00 CET (2026-11-26 18:00 UTC)" in words(
        adas.post("/engines/eng_1/drain/", sent)
    )


@pytest.mark.parametrize(("verb", "missing"), [("drain", "reason"), ("stop", "name"), ("update", "version")])
def test_it_is_said_too_where_something_is_left_to_fill_in(adas, seen, verb, missing):
    seen(status="running")
    sent = form(adas.get(f"/engines/eng_1/{verb}/"))
    seen(status="disconnected")
    answer = adas.post(f"/engines/eng_1/{verb}/", sent | {missing: ""})
    assert (answer.status_code, STATUS in words(answer)) == (422, True)
    again = adas.post(f"/engines/eng_1/{verb}/", form(answer) | {missing: ""})
    assert STATUS not in words(again)


def test_the_same_form_sent_again_leads_to_its_operation_whatever_changed(adas, seen):
    seen()
    sent = form(adas.get("/engines/eng_1/drain/"))
    first = adas.post("/engines/eng_1/drain/", sent)
    seen(status="draining")
    assert adas.post("/engines/eng_1/drain/", sent)["Location"] == first["Location"]


def test_of_two_clicks_at_once_the_second_leads_to_what_the_first_has_just_recorded(adas, seen, monkeypatch):
    seen()
    sent, answers = form(adas.get("/engines/eng_1/drain/")), []

    def meanwhile(*asked):
        if not answers:
            answers.append(None)
            answers.append(adas.post("/engines/eng_1/drain/", sent))
        return refusal(*asked)

    monkeypatch.setattr("engines.views.operate.refusal", meanwhile)
    assert adas.post("/engines/eng_1/drain/", sent)["Location"] == answers[1]["Location"]


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb != Verb.CREATE])  # it has no engine yet
def test_every_verb_says_what_of_the_engine_matters_to_it(verb):
    assert "status" in VERBS[verb].matters


def test_facts_that_were_altered_are_no_ticket(adas, seen, ada):
    engine = seen()
    sent = form(adas.get("/engines/eng_1/drain/"))
    sent["ticket"] = Ticket.issue(Verb.DRAIN, engine, ada)[:-2] + "xx"
    assert adas.post("/engines/eng_1/drain/", sent).status_code == 422
