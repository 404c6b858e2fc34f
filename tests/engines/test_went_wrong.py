"""What went wrong at the API is said in words, with what a person can do, and the redacted answer one click away."""

import html
import json
import re

import pytest

from engines import snapshots
from engines.api.advice import READ_AGAIN, WentWrong, reading_went_wrong, went_wrong
from engines.api.errors import NotSent, Refused, answer_of
from engines.api.redact import RAW_LIMIT
from engines.models import Extension, Operation
from portal import clock
from portal.vault.keys import Sealed, Secret, store
from portal.vault.models import Connection, StoredKey
from tests.engines.conftest import dto, put, read

pytestmark = pytest.mark.django_db

ANSWER = {"status": 500, "code": "internal_error", "message": "said no", "raw": '{"key": "****"}'}
FOLD = '<details class="fold" id="answer'
KEY = "inf_0123456789abcdef0123456789abcdef"
# A code, an answer that echoes a key, and what is to be read of it.
TROUBLE = (403, "insufficient_scope", ("token", KEY))
SCOPE = "What you can do: Your key lacks a scope"


@pytest.fixture
def olgas(client_of, api, olga, olgas_key):
    return client_of(olga)


def words(answer):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", answer.content.decode())).split())


def says(answer, *said):
    """Whether the page has the words, and the answer behind them, without a key."""
    page = answer.content.decode()
    return all(one in words(answer) for one in said) and FOLD in page and KEY not in page


def trouble(api, *asked):
    for one in asked:
        api.trouble[one] = TROUBLE


# Operations


@pytest.mark.parametrize("state", ["unknown", "needs_attention", "refused", "failed"])
def test_an_operation_that_got_a_no_or_no_clear_answer_has_both(olgas, operation, state):
    shown = olgas.get(f"/operations/{put(operation, state, answer=ANSWER).pk}/")
    assert says(shown, "What you can do:")


@pytest.mark.parametrize(
    ("verb", "state"), [("drain", "unknown"), ("extend", "unknown"), ("extend", "needs_attention")]
)
def test_what_may_have_happened_is_not_to_be_asked_again(olgas, operation, verb, state):
    put(operation, state, verb=verb, answer=ANSWER)
    now = clock.now()
    amounts = {"hours": 1, "target": now, "seen_threshold": now, "seen_price": 1, "cost": 1}
    Extension.objects.create(operation=operation, team=operation.team, **amounts)
    shown = words(olgas.get(f"/operations/{operation.pk}/"))
    assert "Do not ask for it again" in shown
    assert "Try again" not in shown


def test_what_waits_for_a_person_and_is_no_money_is_advised_by_the_answer(olgas, operation):
    put(operation, "needs_attention", answer=ANSWER | {"status": 401, "code": "unauthorized"})
    assert "Store another key" in words(olgas.get(f"/operations/{operation.pk}/"))


def test_without_an_answer_there_is_none_to_unfold(olgas, operation):
    put(operation, "unknown", answer=answer_of(NotSent("no connection")))
    assert FOLD not in olgas.get(f"/operations/{operation.pk}/").content.decode()


# The connection


@pytest.fixture
def unread(acme_connection, api, engine, olgas_key):
    trouble(api, "POST /engines/list")
    snapshots.refresh(acme_connection.pk, clock.now())
    acme_connection.refresh_from_db()
    return acme_connection


@pytest.mark.parametrize("page", ["/engines/", "/engines/eng_1/", "/cloud-time/"])
def test_a_connection_that_cannot_be_read_says_so_with_both(unread, olgas, page):
    assert says(olgas.get(page), SCOPE, "It is tried again by itself.")


def test_so_does_the_page_of_the_connections(unread, client_of, ada):
    assert says(client_of(ada).get("/connections/"), SCOPE)


def test_read_again_it_says_nothing_more(unread, api, olgas):
    api.trouble.clear()
    Connection.objects.update(refresh_due_at=None, refresh_lease_until=None)
    snapshots.refresh(unread.pk, clock.now())
    assert Connection.objects.get().last_answer == {}
    assert FOLD not in olgas.get("/engines/").content.decode()


def test_a_key_that_it_refuses_has_both_on_its_card(unread, olgas):
    assert StoredKey.objects.get().last_answer["code"] == "insufficient_scope"
    assert says(olgas.get("/keys/"), SCOPE)


# Keys


@pytest.mark.parametrize("refusal", [(401, "unauthorized"), (403, "forbidden"), (403, "insufficient_scope")])
def test_the_keys_page_sends_nobody_to_the_keys_page(olgas, api, olgas_key, acme_connection, refusal):
    api.trouble["GET /me"] = refusal
    tested = olgas.post(f"/keys/{olgas_key.pk}/test/", follow=True)
    assert "Store another key below, then try again." in words(tested)
    prefix = f"c{acme_connection.pk}"
    sent = {"connection": acme_connection.pk, f"{prefix}-label": "mine", f"{prefix}-secret": "inf_fresh"}
    entered = olgas.post("/keys/", sent)
    assert "Store another key here, then try again." in words(entered)
    assert [answer for answer in (tested, entered) if "Keys page" in words(answer)] == []


def test_a_key_that_was_entered_in_vain_says_why(olgas, api, acme_connection):
    trouble(api, "GET /me")
    prefix = f"c{acme_connection.pk}"
    sent = {"connection": acme_connection.pk, f"{prefix}-label": "mine", f"{prefix}-secret": "inf_fresh"}
    answer = olgas.post("/keys/", sent)
    assert answer.status_code == 422
    assert says(answer, SCOPE, "The key was not stored.")


def test_a_test_that_came_to_nothing_says_why_and_the_next_one_clears_it(olgas, api, olgas_key):
    api.trouble["GET /me"] = (500, "internal_error")
    olgas.post(f"/keys/{olgas_key.pk}/test/")
    assert says(olgas.get("/keys/"), "It could not be tested the last time.", "Something broke inside the API.")
    assert StoredKey.objects.get().last_error == ""
    api.trouble.clear()
    olgas.post(f"/keys/{olgas_key.pk}/test/")
    assert FOLD not in olgas.get("/keys/").content.decode()


def test_a_key_that_was_not_surely_revoked_says_why(confirmed, api, olga, olgas_key):
    StoredKey.objects.update(scopes=["apikeys:write"])
    api.key_id = "key_1"
    api.trouble["DELETE /apikeys/key_1"] = (500, "internal_error")
    answer = confirmed(olga).post(f"/keys/{olgas_key.pk}/revoke/", {"where": "api"})
    assert says(answer, "It is not certain that the API refuses the key now", "Something broke inside the API.")


# What dialogs ask for


def test_versions_that_could_not_be_read_are_said_to(olgas, api, engine):
    trouble(api, "GET /engines/releases")
    assert says(olgas.get("/engines/eng_1/update/"), SCOPE, "Which versions there are is not known now.")


def test_an_api_without_a_list_of_versions_is_no_trouble(olgas, api, engine):
    assert "not known now" not in words(olgas.get("/engines/eng_1/update/"))


@pytest.fixture
def bills(api, client_of, bill, acme_connection):
    api.types = []
    store(user=bill, connection=acme_connection, secret=Secret("inf_bill_key"), label="Bill's", scopes=["*"])
    cloud = {"cloud": "local", "status": "active", "hourly_price": 100}
    end = {"date_threshold": "2026-11-24T12:00:00Z"}
    read(acme_connection, dto(instance=cloud | {"auto_delete": end}))
    return client_of(bill)


def test_a_balance_that_could_not_be_read_is_said_to(bills, api):
    trouble(api, "GET /billing/balance")
    shown = bills.get("/engines/eng_1/extend/?hours=3")
    assert says(shown, SCOPE, "The balance could not be read.")


def test_many_balances_that_could_not_be_read_are_said_to(bills, api):
    trouble(api, "GET /billing/balance")
    assert says(bills.get("/engines/many/extend/?uid=eng_1"), SCOPE, "not known; this costs")


def test_machines_that_could_not_be_read_are_said_to(api, client_of, ada, acme_connection):
    store(user=ada, connection=acme_connection, secret=Secret("inf_ada_key"), label="Ada's", scopes=["*"])
    trouble(api, "GET /instances/types")
    shown = client_of(ada).get("/engines/new/cloud/")
    assert says(shown, SCOPE, "What can be rented is not known now.")
    assert "Nothing can be rented here" not in words(shown)


def test_a_reading_that_got_no_answer_advises_to_read_again_and_not_to_look_at_an_engine():
    answer = {"status": 0, "code": "timeout", "message": "No answer in time."}
    assert "Look at how the engine stands" in went_wrong(answer).advice
    assert reading_went_wrong(answer).advice == READ_AGAIN
    assert reading_went_wrong(ANSWER) == went_wrong(ANSWER)
    assert reading_went_wrong({}) is None


# What is kept


def test_what_is_shown_is_bounded_and_masked():
    long = went_wrong({"status": 400, "message": "no", "raw": f"{KEY} " + "x" * 10 * RAW_LIMIT})
    assert len(long.raw) <= 3 * RAW_LIMIT
    assert KEY not in long.raw


def test_an_answer_is_shown_as_it_came_and_readable():
    assert went_wrong(ANSWER).raw == 'HTTP 500\n{\n  "key": "****"\n}'
    assert went_wrong(ANSWER | {"raw": "<html>"}).raw == "HTTP 500\n<html>"
    assert went_wrong(ANSWER | {"raw": ""}).raw == "HTTP 500"


def test_what_is_no_answer_has_words_alone():
    assert went_wrong(answer_of(Sealed("The key cannot be opened."))) == WentWrong("The key cannot be opened.", "", "")
    assert went_wrong({}) is None


def test_what_is_kept_of_an_answer_is_json():
    kept = answer_of(Refused("no", status=409, code="conflict", raw="{}"))
    assert json.loads(json.dumps(kept)) == {"status": 409, "code": "conflict", "message": "no", "raw": "{}"}
    assert not Operation.objects.exists()
