"""The engine and operation pages: who sees and does what, and what they are told."""

import re

import pytest

from engines.enums import State, Verb
from engines.models import Automation, Engine, Moment, Operation
from engines.snapshots import refresh
from engines.tickets import Ticket
from portal import clock
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import NOW, WHY, dto, put, read

pytestmark = pytest.mark.django_db
DRAIN = "/engines/eng_1/drain/"
RENTED = {"instance": {"cloud": "local", "status": "active"}}


def form(engine, user, **changes):
    return {"reason": "kernel patch", "deadline": "2", "ticket": Ticket.issue("drain", engine, user), **changes}


def test_an_operator_drains(engine, olga, olgas_key, client_of):
    answer = client_of(olga).post(DRAIN, form(engine, olga))
    operation = Operation.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/operations/{operation.pk}/")
    assert (operation.requested_by, operation.reason, operation.key) == (olga, "kernel patch", olgas_key)


@pytest.mark.parametrize("who", ["victor", "bill", "audra"])
def test_it_refuses_those_who_may_only_look(request, engine, client_of, who):
    user = request.getfixturevalue(who)
    assert client_of(user).post(DRAIN, form(engine, user)).status_code == 403
    assert Operation.objects.count() == 0


def test_it_hides_the_engine_from_outsiders(engine, mallory, client_of):
    assert client_of(mallory).post(DRAIN, form(engine, mallory)).status_code == 404
    assert client_of(mallory).get("/engines/eng_1/").status_code == 404


HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "fleet"}


@pytest.mark.parametrize(("team", "refreshed"), [("acme", None), ("mallory-inc", "true"), ("", "true")])
def test_a_page_of_another_team_gets_no_rows_of_this_one(engine, olga, client_of, team, refreshed):
    answer = client_of(olga).get("/engines/", HTTP_X_TEAM=team, **HTMX)
    assert answer.headers.get("HX-Refresh") == refreshed
    assert ("gpu-1" in answer.content.decode()) is not bool(refreshed)


def test_a_page_of_another_team_asks_for_nothing_here(engine, olga, olgas_key, client_of):
    client_of(olga).post(DRAIN, form(engine, olga), HTTP_X_TEAM="mallory-inc", **HTMX)
    assert Operation.objects.count() == 0


def test_it_hides_the_operation_from_outsiders(operation, mallory, client_of):
    assert client_of(mallory).get(f"/operations/{operation.pk}/").status_code == 404


def test_a_double_click_is_one_operation(engine, olga, olgas_key, client_of):
    sent = form(engine, olga)
    first, second = (client_of(olga).post(DRAIN, sent) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert Operation.objects.count() == 1


def test_d21_a_second_tab_leads_to_the_drain_that_is_under_way(operation, engine, olga, client_of):
    put(operation, "working")
    answer = client_of(olga).post(DRAIN, form(engine, olga, reason="other words"), follow=True)
    assert answer.redirect_chain == [(f"/operations/{operation.pk}/", 302)]
    assert "is under way already" in answer.content.decode()
    assert Operation.objects.count() == 1


def test_d21_what_another_person_asked_for_is_named(operation, engine, ada, client_of):
    answer = client_of(ada).post(DRAIN, form(engine, ada))
    assert answer.status_code == 409
    assert "Drain by Olga is under way" in answer.content.decode()


def test_d21_the_same_with_other_parameters_is_not_the_same(operation, engine, olga, olgas_key, client_of):
    put(operation, "working", verb="update", parameters={"version": "v2.0.0", "from": "v1.0.0"})
    words = {"ticket": Ticket.issue(Verb.UPDATE, engine, olga), "reason": "r", "deadline": "2", "version": "v3.0.0"}
    assert client_of(olga).post("/engines/eng_1/update/", words).status_code == 409


def test_a_form_made_for_somebody_else_is_refused(engine, ada, olga, olgas_key, client_of):
    answer = client_of(olga).post(DRAIN, form(engine, ada))
    assert answer.status_code == 422
    assert Operation.objects.count() == 0


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "nul\x00"])
def test_a_bad_reason_is_said_in_the_dialog(engine, olga, olgas_key, client_of, reason):
    answer = client_of(olga).post(DRAIN, form(engine, olga, reason=reason))
    assert answer.status_code == 422
    assert Operation.objects.count() == 0


def test_a_stopped_engine_is_not_drained(acme_connection, olga, olgas_key, client_of):
    read(acme_connection, dto(status="stopped"))
    engine = Engine.objects.get()
    assert client_of(olga).post(DRAIN, form(engine, olga)).status_code == 409


def test_a_key_without_the_scope_says_so(engine, olga, olgas_key, client_of):
    StoredKey.objects.update(scopes=["engines:read"])
    answer = client_of(olga).get("/engines/eng_1/")
    assert "lacks the scope engines:write" in answer.content.decode()


@pytest.mark.parametrize("who", ["ada", "olga", "bill", "audra", "victor"])
@pytest.mark.parametrize("path", ["/engines/", "/engines/eng_1/", "/operations/"])
def test_everybody_in_the_team_sees_the_fleet(request, engine, client_of, who, path):
    assert client_of(request.getfixturevalue(who)).get(path).status_code == 200


def test_names_are_shown_as_text(acme_connection, olga, client_of):
    read(acme_connection, dto(name="<img src=x onerror=alert(1)>"))
    page = client_of(olga).get("/engines/").content.decode()
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(("asked", "found"), [("kernel", True), ("KERNEL PATCH", True), ("driver", False)])
def test_operations_are_found_by_why_they_were_asked(operation, olga, client_of, asked, found):
    Operation.objects.update(reason="A kernel patch, ticket OPS-9")
    page = client_of(olga).get("/operations/", {"q": asked}).content.decode()
    assert (f"/operations/{operation.pk}/" in page) is found


@pytest.mark.parametrize("query", ["?cursor=nonsense", "?sort=password", "?status=none-such", "?q=%00", "?gpu=%27"])
def test_a_bad_address_is_answered_with_a_page(engine, olga, client_of, query):
    assert client_of(olga).get(f"/engines/{query}").status_code == 200


def test_the_fleet_page_costs_the_same_for_one_and_for_a_hundred(
    acme_connection, olga, client_of, django_assert_max_num_queries
):
    client = client_of(olga)
    read(acme_connection, *(dto(uid=f"eng_{n}", name=f"n{n}") for n in range(100)))
    client.get("/engines/")
    with django_assert_max_num_queries(12):
        client.get("/engines/")


ODD = [7, "x", "9999-99-99T99:99:99Z", "0001-01-01T00:00:00Z", [], [7], {}, {"cpus": 7, "ram": {"total": "8 GB"}}]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_engine_hides_no_page(api, acme_connection, olga, olgas_key, client_of, odd):
    worker = {"index": odd, "status": odd, "task_id": odd, "status_updated_at": odd, "app_id": odd, "gpus": odd}
    worker["cpus"] = [{"name": odd, "cores": odd, "vram": odd}, odd]
    names = ["name", "status", "engine_version", "created_at", "system_info", "instance", "engine_pin"]
    api.engines["eng_2"] = {"id": "eng_2", **dict.fromkeys(names, odd), "workers": [worker, {**worker, "task_id": "t"}]}
    refresh(acme_connection.pk, clock.now())
    pages = [client_of(olga).get(path).status_code for path in ("/engines/", "/engines/eng_1/", "/engines/eng_2/")]
    assert pages == [200, 200, 200]


def test_pages_follow_one_another_without_a_gap(acme_connection, olga, client_of, monkeypatch):
    read(acme_connection, *(dto(uid=f"eng_{n}", name="same") for n in range(250)))
    client, query, seen = client_of(olga), "", []
    while query is not None:
        page = client.get(f"/engines/{query}").context["page"]
        seen += [row.uid for row in page["rows"]]
        query = page["next"]
    assert len(seen) == len(set(seen)) == 250


def test_an_operation_not_yet_sent_can_be_cancelled(operation, olga, client_of):
    client_of(olga).post(f"/operations/{operation.pk}/cancel/", WHY)
    operation.refresh_from_db()
    assert operation.state == State.CANCELLED


def test_cancelling_a_repeat_does_not_say_that_nothing_was_ever_sent(operation, olga, client_of):
    put(operation, "requested", attempts=1)
    client_of(olga).post(f"/operations/{operation.pk}/cancel/", WHY)
    operation.refresh_from_db()
    assert operation.note == "Cancelled by Olga before it was sent again."


def test_a_drain_that_was_sent_cannot_be_cancelled(operation, olga, client_of):
    put(operation, "working")
    client_of(olga).post(f"/operations/{operation.pk}/cancel/", WHY)
    operation.refresh_from_db()
    assert operation.state == State.WORKING


def test_a_person_keeps_waiting_for_a_stuck_drain(operation, olga, client_of, held):
    put(operation, "stuck")
    held.advance(hours=3)
    client_of(olga).post(f"/operations/{operation.pk}/keep-waiting/", WHY)
    before, state = operation.deadline_at, Operation.objects.get()
    assert (state.state, state.deadline_at > before) == (State.WORKING, True)


def test_whoever_asked_has_it_sent_again(operation, olga, client_of):
    put(operation, "needs_attention")
    client_of(olga).post(f"/operations/{operation.pk}/send-again/", WHY)
    operation.refresh_from_db()
    assert operation.state == State.REQUESTED


def test_nobody_sends_again_with_the_key_of_another_person(operation, ada, client_of):
    put(operation, "needs_attention")
    shown = client_of(ada).get(f"/operations/{operation.pk}/").content.decode()
    page = client_of(ada).post(f"/operations/{operation.pk}/send-again/", WHY, follow=True).content.decode()
    operation.refresh_from_db()
    assert operation.state == State.NEEDS_ATTENTION
    assert "the key of Olga" in shown
    assert "ask anew with your own" in page


def test_closing_says_what_it_does_first(operation, ada, client_of):
    put(operation, "needs_attention")
    assert "The engine is not told." in client_of(ada).get(f"/operations/{operation.pk}/close/").content.decode()


def test_an_entered_key_is_checked_and_stored(api, olga, client_of, acme_connection):
    prefix = f"c{acme_connection.pk}"
    sent = {"connection": acme_connection.pk, f"{prefix}-label": "mine", f"{prefix}-secret": "inf_fresh"}
    assert client_of(olga).post("/keys/", sent).status_code == 302
    assert StoredKey.objects.get().scopes == ["engines:read", "engines:write"]


def key_form(connection, label="mine", secret="inf_fresh"):
    return {"connection": connection.pk, f"c{connection.pk}-label": label, f"c{connection.pk}-secret": secret}


def test_a_first_key_is_added(api, olga, client_of, acme_connection):
    assert "Check and add" in client_of(olga).get("/keys/").content.decode()
    page = client_of(olga).post("/keys/", key_form(acme_connection), follow=True).content.decode()
    assert "“mine” was checked and was added for Acme" in page


def test_another_key_replaces_the_first_and_says_so(api, olga, olgas_key, client_of, acme_connection):
    page = client_of(olga).get("/keys/").content.decode()
    assert "Rotate or replace your key" in page
    assert "Check and add" not in page
    page = client_of(olga).post("/keys/", key_form(acme_connection), follow=True).content.decode()
    assert "“mine” was checked and has replaced Olga&#x27;s" in page


@pytest.mark.parametrize("label", ["inf_0123456789", "my key-0123456789 for acme"])
def test_a_key_in_the_place_of_its_name_is_refused_and_not_shown(api, olga, client_of, acme_connection, label):
    answer = client_of(olga).post("/keys/", key_form(acme_connection, label, "key-0123456789"))
    assert (answer.status_code, StoredKey.objects.count()) == (422, 0)
    assert label not in answer.content.decode()


def test_a_key_for_a_connection_that_is_gone_is_not_swallowed_in_silence(api, olga, client_of, acme_connection):
    answer = client_of(olga).post("/keys/", key_form(acme_connection) | {"connection": "0"})
    assert (answer.status_code, "Nothing was stored" in answer.content.decode()) == (422, True)


@pytest.mark.parametrize(
    ("verb", "machine", "said"),
    [
        ("stop", {}, "Then its process ends, and it stays down until somebody starts it on its host."),
        ("stop", RENTED, "Then its process ends.</li><li>Its rented machine is given back."),
        ("drain", {}, "it stays down until somebody starts it on its host."),
        ("drain", RENTED, "it stays down until its machine is restarted."),
    ],
)
def test_the_dialog_says_how_the_engine_can_come_back(acme_connection, ada, client_of, verb, machine, said):
    read(acme_connection, dto(**machine))
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["*"])
    assert said in client_of(ada).get(f"/engines/eng_1/{verb}/").content.decode()


def test_an_engine_with_one_worker_that_idles_has_none_of_one_busy(acme_connection, olga, olgas_key, client_of):
    read(acme_connection, dto(workers=1))
    assert "0 of 1 worker busy" in client_of(olga).get(DRAIN).content.decode()


def test_that_a_key_is_missing_is_said_once_for_the_whole_fleet(acme_connection, engine, olga, client_of):
    read(acme_connection, dto(), dto("eng_2"))
    page = client_of(olga).get("/engines/").content.decode()
    assert page.count('aria-describedby="key-missing"') == 2
    assert "You have no key for this API yet" not in page
    assert page.count('id="key-missing"') == 1


def test_what_a_role_may_not_is_said_once_for_the_whole_fleet(acme_connection, engine, bill, client_of):
    read(acme_connection, dto(), dto("eng_2"))
    page = client_of(bill).get("/engines/").content.decode()
    assert page.count('aria-describedby="many-denied">') >= 2
    assert page.count("Your role (Billing) may not") == 1


def test_who_may_ask_nothing_of_an_engine_is_not_told_of_a_key_for_it(engine, victor, client_of):
    page = client_of(victor).get("/engines/").content.decode()
    assert "You have not entered an API key yet" not in page
    assert "Your role (Viewer) may not" not in page


def test_somebody_who_may_enter_no_key_is_not_asked_for_one(engine, audra, client_of):
    assert "Add your key" not in client_of(audra).get("/engines/").content.decode()


@pytest.mark.parametrize("path", ["/engines/", "/operations/", "/engines/eng_1/"])
def test_a_worker_that_never_ran_is_missed(operation, olga, client_of, path):
    assert "Automation has not run yet" in client_of(olga).get(path).content.decode()


@pytest.mark.parametrize("path", ["/engines/", "/operations/", "/engines/eng_1/"])
def test_a_worker_that_runs_is_not_missed(operation, olga, client_of, path):
    Automation.objects.create(worker="w", seen_at=clock.now())
    assert "Automation has not run" not in client_of(olga).get(path).content.decode()


def test_a_status_of_the_apis_own_can_be_filtered_by(acme_connection, olga, client_of):
    read(acme_connection, dto(), dto(uid="eng_2", name="odd", status="hibernating"))
    page = client_of(olga).get("/engines/?status=hibernating").context["page"]
    assert [row.name for row in page["rows"]] == ["odd"]


@pytest.mark.parametrize("path", ["/engines/?cloud=x", "/operations/?state=x", "/engines/?status=%00"])
def test_a_filter_that_was_left_out_is_not_shown_as_in_use(engine, olga, client_of, path):
    answer = client_of(olga).get(path)
    assert answer.context["chips"] == []
    assert "This filter was left out" in answer.content.decode()


def test_the_dialog_says_how_old_its_knowledge_is(engine, olga, olgas_key, client_of, held):
    held.advance(minutes=10)
    assert "what runs now may differ" in client_of(olga).get(DRAIN).content.decode()
    Connection.objects.update(refreshed_at=clock.now())
    assert "what runs now may differ" not in client_of(olga).get(DRAIN).content.decode()


def test_an_engine_that_two_connections_list_has_a_page(engine, acme, olga, client_of):
    twin = Connection.objects.create(team=acme, name="The same", base_url="http://localhost:1")
    read(twin, dto(name="twin"))
    assert client_of(olga).get("/engines/eng_1/").context["engine"] == engine


def test_the_api_call_can_be_pasted_whatever_the_address(engine, olga, client_of):
    Connection.objects.update(base_url="http://127.0.0.1:1/$(id)")
    assert "curl -X POST 'http://127.0.0.1:1/$(id)/" in client_of(olga).get("/engines/eng_1/").context["cli"]


def test_an_operation_that_went_to_and_fro_shows_its_latest_moments(operation, olga, client_of):
    Moment.objects.bulk_create(Moment(operation=operation, at=NOW, state="working", text=f"{n}") for n in range(300))
    shown = client_of(olga).get(f"/operations/{operation.pk}/").context
    assert (shown["moments"][-1].text, len(shown["moments"]), shown["has_earlier"]) == ("299", 100, True)


def test_a_key_that_the_api_refuses_is_not_stored(api, olga, client_of, acme_connection):
    api.trouble["GET /me"] = (401, "unauthorized")
    prefix = f"c{acme_connection.pk}"
    sent = {"connection": acme_connection.pk, f"{prefix}-label": "mine", f"{prefix}-secret": "inf_wrong"}
    answer = client_of(olga).post("/keys/", sent)
    assert answer.status_code == 422
    assert "inf_wrong" not in answer.content.decode()
    assert StoredKey.objects.count() == 0


def test_a_key_cannot_be_checked_while_the_api_is_away(api, olga, client_of, acme_connection):
    api.close()
    prefix = f"c{acme_connection.pk}"
    sent = {"connection": acme_connection.pk, f"{prefix}-label": "mine", f"{prefix}-secret": "inf_fresh"}
    answer = client_of(olga).post("/keys/", sent)
    assert (answer.status_code, StoredKey.objects.count()) == (422, 0)


def refused(operation, state="refused", **answer):
    found = {"status": 409, "code": "engine_offline", "message": "said no", "raw": '{"key": "****"}', **answer}
    return put(operation, state, finished_at=NOW, note="The Engines API refused the request.", answer=found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "What you can do: The engine has no connection."),
        ({"code": "insufficient_scope", "status": 403}, "What you can do: Your key lacks a scope"),
        ({"code": "", "status": 402}, "What you can do: Top up the balance"),
    ],
)
def test_a_refusal_says_what_to_do_and_has_the_whole_answer_one_click_away(operation, olga, client_of, answer, said):
    page = client_of(olga).get(f"/operations/{refused(operation, **answer).pk}/").content.decode()
    assert said in " ".join(re.sub(r"<[^>]+>", "", page).split())
    assert '<details class="fold" id="answer">' in page
    assert "****" in page


@pytest.mark.parametrize("state", ["succeeded", "working", "requested"])
def test_advice_is_given_only_where_the_answer_counts(operation, olga, client_of, state):
    assert "What you can do" not in client_of(olga).get(f"/operations/{refused(operation, state).pk}/").content.decode()
