"""Each decision about an operation is made in a dialog that asks why, which stays on its timeline and in the log."""

import html
import re

import pytest

from engines.models import Batch, Ceiling, Freeze, Limits, Operation
from engines.operations.request import request
from portal import clock
from portal.audit.models import Entry
from portal.audit.origin import Origin
from tests.engines.conftest import WHY, put, wish

pytestmark = pytest.mark.django_db

STEPS = {"cancel": "requested", "keep-waiting": "stuck", "close": "stuck", "send-again": "needs_attention"}
HTMX = {"HX-Request": "true"}


@pytest.fixture
def olgas(client_of, olga):
    return client_of(olga)


@pytest.fixture(params=STEPS)
def step(request):
    return request.param


@pytest.fixture
def url(operation, step):
    put(operation, STEPS[step])
    return f"/operations/{operation.pk}/{step}/"


def words(answer):
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", answer.content.decode()).split()))


def test_it_asks_why_in_a_dialog_and_on_a_page(olgas, url):
    fragment, page = olgas.get(url, headers=HTMX), olgas.get(url)
    assert "<html" not in fragment.content.decode()
    assert "<html" in page.content.decode()
    assert all('name="reason"' in each.content.decode() for each in (fragment, page))


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\0b"])
def test_without_a_reason_nothing_is_done_and_nothing_lost(olgas, operation, url, reason):
    before = operation.state
    answer = olgas.post(url, {"reason": reason})
    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    assert reason.replace("\0", "")[:400].strip() in answer.content.decode()
    operation.refresh_from_db()
    assert operation.state == before


def test_the_reason_is_on_the_timeline_and_in_the_log(olgas, operation, olga, url):
    olgas.post(url, WHY)
    assert operation.moments.latest("pk").reason == WHY["reason"]
    assert WHY["reason"] in words(olgas.get(f"/operations/{operation.pk}/"))
    entry = Entry.objects.get(action__startswith="operation.", actor=olga)
    assert (entry.reason, entry.operation_id) == (WHY["reason"], str(operation.pk))


def test_the_search_of_the_log_finds_it(olgas, client_of, ada, operation, url):
    olgas.post(url, WHY)
    assert WHY["reason"] in words(client_of(ada).get("/audit/?q=the+first+one"))


def test_what_is_no_longer_open_says_so_and_has_no_button(olgas, operation, url):
    put(operation, "succeeded")
    shown = olgas.get(url)
    assert "Not possible now." in words(shown)
    assert 'name="reason"' not in shown.content.decode()


def test_a_decision_of_a_dialog_leads_back_to_the_operation(olgas, operation, url):
    assert olgas.post(url, WHY, headers=HTMX)["HX-Redirect"] == f"/operations/{operation.pk}/"


def test_what_comes_of_it_by_itself_has_the_reason_of_who_asked(olgas, operation, url):
    assert set(Entry.objects.filter(action__startswith="engine.").values_list("reason", flat=True)) == {
        operation.reason
    }
    assert operation.moments.earliest("pk").reason == ""


def test_an_operator_does_not_take_a_purchase_back(olgas, operation):
    put(operation, "requested", verb="extend")
    assert "Not possible now." in words(olgas.get(f"/operations/{operation.pk}/cancel/"))
    olgas.post(f"/operations/{operation.pk}/cancel/", WHY)
    operation.refresh_from_db()
    assert operation.state == "requested"


def test_the_rest_of_a_batch_is_stopped_with_a_reason(olgas, operation, olga):
    batch = Batch.objects.create(
        team=operation.team, verb="drain", reason="patch", requested_name="Olga", requested_at=clock.now()
    )
    Operation.objects.update(batch=batch)
    url = f"/batches/{batch.pk}/stop/"
    assert olgas.post(url, {"reason": ""}).status_code == 422
    olgas.post(url, WHY)
    operation.refresh_from_db()
    assert (operation.state, operation.moments.latest("pk").reason) == ("cancelled", WHY["reason"])
    assert Entry.objects.get(action="operation.cancelled", actor=olga).reason == WHY["reason"]


def test_what_another_wish_replaces_keeps_its_own_reason(operation, olga, olgas_key, engine):
    put(operation, "working")
    asked = {"engine": engine, "user": olga, "key": olgas_key, "origin": Origin(), "now": clock.now()}
    request(wish(verb="stop", parameters={"online": True}), **asked)
    assert Entry.objects.get(action="operation.superseded").reason == operation.reason


@pytest.mark.parametrize("headers", [HTMX, {}])
@pytest.mark.parametrize("brake", ["freeze", "limits", "ceiling"])
def test_how_much_may_be_spent_stays_as_it_is_without_a_reason(client_of, ada, brake, headers):
    adas, url = client_of(ada), f"/cloud-time/{brake}/"
    typed = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', adas.get(url).content.decode()))
    entries = Entry.objects.count()
    for reason in ({}, {"reason": " "}):
        assert adas.post(url, typed | reason, headers=headers).status_code == 422
    assert Entry.objects.count() == entries
    assert not any(kind.objects.exists() for kind in (Freeze, Limits, Ceiling))
