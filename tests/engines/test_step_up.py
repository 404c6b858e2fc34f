"""Step-up: a stop, a delete or a key needs a proof of the last ten minutes, and nothing typed is lost over it."""

import re

import pytest

from engines.models import Operation
from portal.accounts.models import Membership
from portal.audit.models import Entry
from portal.vault.keys import Secret, store
from portal.vault.models import StoredKey
from tests.engines.conftest import WHY, put
from tests.engines.test_keys import form as key_form
from tests.engines.test_send import sent
from tests.engines.test_verbs import form

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
CONFIRM = 'href="/accounts/confirm/?next=/accounts/confirm/done/" target="_blank"'


@pytest.fixture
def adas_key(ada, acme_connection):
    return store(user=ada, connection=acme_connection, secret=Secret("inf_ada"), label="Ada's", scopes=["*"])


@pytest.fixture(params=["stop", "delete"])
def verb(request, engine, adas_key):
    if request.param == "delete":
        type(engine).objects.update(status="stopped")
        engine.refresh_from_db()
    return request.param


def asked(browser, verb, engine, ada):
    words = {"reason": "the rack moves", "name": engine.name}
    return browser.post(f"/engines/eng_1/{verb}/", form(verb, engine, ada, **words), headers=HTMX)


def test_who_signed_in_just_now_is_asked_for_nothing(confirmed, ada, verb, engine):
    assert CONFIRM not in confirmed(ada).get(f"/engines/eng_1/{verb}/", headers=HTMX).content.decode()
    assert "HX-Redirect" in asked(confirmed(ada, ago=590), verb, engine, ada)
    assert Operation.objects.get().verb == verb


def test_after_ten_minutes_nothing_is_asked_and_every_word_stays(confirmed, ada, verb, engine):
    answer = asked(confirmed(ada, ago=601), verb, engine, ada)
    page = answer.content.decode()
    assert (answer.status_code, Operation.objects.count()) == (409, 0)
    assert "Nothing was done: confirm that it is you first." in page
    assert "the rack moves</textarea>" in page
    assert CONFIRM in page


def test_the_dialog_says_so_before_anything_is_typed(confirmed, ada, verb):
    page = confirmed(ada, ago=601).get(f"/engines/eng_1/{verb}/", headers=HTMX).content.decode()
    assert CONFIRM in page


def test_the_same_form_goes_through_once_confirmed(confirmed, ada, verb, engine):
    browser = confirmed(ada, ago=601)
    page = asked(browser, verb, engine, ada).content.decode()
    done = browser.post("/accounts/confirm/", {"password": "correct horse battery", "next": "/accounts/confirm/done/"})
    assert "Close this tab" in browser.get(done["Location"]).content.decode()
    ticket = re.search(r'name="ticket" value="([^"]+)"', page).group(1)
    again = {"ticket": ticket, "reason": "the rack moves", "deadline": "2", "name": engine.name}
    assert "HX-Redirect" in browser.post(f"/engines/eng_1/{verb}/", again, headers=HTMX)
    assert Operation.objects.get().reason == "the rack moves"


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_nor_are_many_stopped_or_deleted_without(confirmed, ada, adas_key, engine, verb):
    if verb == "delete":
        type(engine).objects.update(status="stopped")
    browser = confirmed(ada, ago=601)
    page = browser.get(f"/engines/many/{verb}/?uid=eng_1").content.decode()
    ticket = re.search(r'name="ticket" value="([^"]+)"', page).group(1)
    words = {"ticket": ticket, "reason": "the rack moves", "deadline": "2", "typed": f"{verb} 1"}
    words |= {"pace": "turns", "despite": "on"}
    answer = browser.post(f"/engines/many/{verb}/?uid=eng_1", words)
    assert "Nothing was done: confirm that it is you first." in answer.content.decode()
    assert Operation.objects.count() == 0


def test_nor_is_one_sent_again_without(confirmed, ada, verb, engine):
    asked(confirmed(ada), verb, engine, ada)
    operation = put(Operation.objects.get(), "needs_attention")
    answer = confirmed(ada, ago=601).post(f"/operations/{operation.pk}/send-again/", WHY)
    assert answer.status_code == 409
    assert "Nothing was done: confirm that it is you first." in answer.content.decode()
    assert "it lost the first one</textarea>" in answer.content.decode()
    assert Operation.objects.get().state == "needs_attention"
    confirmed(ada).post(f"/operations/{operation.pk}/send-again/", WHY)
    assert Operation.objects.get().state == "requested"


def test_a_drain_needs_no_proof(confirmed, olga, olgas_key, engine):
    browser = confirmed(olga, ago=601)
    assert browser.post("/engines/eng_1/drain/", form("drain", engine, olga)).status_code == 302


def test_a_key_is_stored_only_after_a_proof(confirmed, olga, acme_connection):
    browser = confirmed(olga, ago=601)
    assert CONFIRM in browser.get("/keys/").content.decode()
    answer = browser.post("/keys/", key_form(acme_connection, "replace"))
    assert "confirm that it is you, then enter the key again" in answer.content.decode()
    assert b"inf_second_key" not in answer.content
    assert not StoredKey.objects.exists()


@pytest.mark.parametrize("change", ["role", "team"])
def test_a_right_lost_before_the_claim_is_in_the_audit_log(api, operation, olga, change):
    if change == "role":
        Membership.objects.filter(user=olga).update(role="viewer")
    else:
        Membership.objects.filter(user=olga).delete()
    sent(operation)
    assert api.requests == []
    entry = Entry.objects.get(action="operation.cancelled")
    assert "Olga may no longer do this in Acme." in f"{entry.reason} {entry.after} {entry.detail}"
