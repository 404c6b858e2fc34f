"""ASVS 8.2.2, 8.4.1: what belongs to another team does not exist, wherever its id is put; nor what is somebody's own.

Everybody here is of the foreign team, and has Acme's ids, tickets and cursors.
"""

import re
from decimal import Decimal
from html import unescape

import pytest

from engines.creating.forms import issue
from engines.models import Engine, LedgerEntry, Operation, Proposal
from engines.money import many
from engines.money.order import Order, Orders
from engines.views.selection import VERBS
from portal.accounts.access import TABLE
from portal.audit.models import Entry
from portal.keyset import _sign
from portal.live.viewers import Viewer
from tests.security.test_every_address import everything
from tests.security.test_roles import ask, browser_of
from tests.security.world import CAST, CONVERTERS

OURS = re.compile(r"Said by Acme|eng_acme|@acme\.example|inf_acme")  # what nobody of the other team may read
ABOUT_A_ROW = sorted(name for name, parts in CONVERTERS.items() if parts and name != "join")  # its link is signed
OF_ONE_PERSON = {"key-test", "key-revoke", "session-end", "sso-unlink", "passkey-remove", "audit-filter-forget"}


@pytest.fixture
def mallory(foreign):
    return browser_of(foreign.people["ada"])


def changed(before):
    """What is not as it was, but for the log of the foreign team: a refusal is written down there."""
    after = everything()
    return {kind for kind in after if after[kind] != before[kind]} - {"audit.Entry", "audit.Head"}


@pytest.mark.parametrize("person", CAST)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_id_is_unknown(world, foreign, method, person):
    while world.entry.number <= foreign.entry.number:  # each team's log counts for itself
        world.entry = world.audit("connection.changed", world.connection)
    browser, before = browser_of(foreign.people[person]), everything()
    answers = {name: ask(browser, world, name, method, person) for name in ABOUT_A_ROW if method in TABLE[name]}
    found = {name: answer.status_code for name, answer in answers.items()}
    may = {name for name, methods in TABLE.items() if isinstance(methods.get(method), str)}
    may |= {name for name, methods in TABLE.items() if CAST[person] in methods.get(method, ())} - may
    assert found == {name: 404 if name in may else 403 for name in found}
    assert [name for name, answer in answers.items() if OURS.search(answer.content.decode())] == []
    assert everything() == before


def test_nor_is_what_a_colleague_has_for_themselves(world):
    found = {}
    for person in ("olga", "bill", "audra", "victor"):
        browser = browser_of(world.people[person])
        for name in OF_ONE_PERSON:
            found[person, name] = ask(browser, world, name, "POST", "ada").status_code
    assert {cell: status for cell, status in found.items() if status not in (403, 404)} == {}


@pytest.mark.parametrize("person", CAST)
def test_no_page_names_anything_of_another_team(world, foreign, person):
    browser = browser_of(foreign.people[person])
    names = TABLE.keys() - {"live"}
    pages = {name: ask(browser, foreign, name, "GET", person).content.decode() for name in names}
    assert {name: OURS.findall(page) for name, page in pages.items() if OURS.search(page)} == {}
    assert "Said by Mallory" in pages["engines"]


@pytest.mark.parametrize("verb", VERBS)
def test_one_foreign_engine_among_many_refuses_them_all(world, foreign, mallory, verb):
    path, mine = f"/engines/many/{verb}/", f"?uid={foreign.cloud_uid}"
    ticket = hidden(mallory.get(path + mine), "ticket")
    form = {"ticket": ticket, "reason": "mine", "deadline": "2", "version": "stable", "typed": "1"}
    before = everything()
    mixed = f"{path}{mine}&uid={world.cloud_uid}"
    for answer in (mallory.get(mixed), mallory.post(mixed, form)):
        assert answer.status_code == 404
        assert not OURS.search(answer.content.decode())
    assert everything() == before


def hidden(answer, name):
    """The value of a hidden field of the page."""
    return unescape(re.search(rf'name="{name}" value="([^"]*)"', answer.content.decode())[1])


@pytest.mark.parametrize("name", ["engine-drain", "engine-stop", "engine-rename", "engine-extend", "bulk-drain"])
def test_what_acme_was_shown_confirms_nothing_elsewhere(world, foreign, mallory, name):
    field = "quote" if name == "engine-extend" else "ticket"
    shown = hidden(browser_of(world.people["ada"]).get(world.url(name)), field)
    before = everything()
    form = {field: shown, "reason": "mine", "deadline": "2", "name": "mine", "typed": "mine"}
    assert mallory.post(foreign.url(name), form).status_code == 422
    assert changed(before) == set()


def test_an_order_that_acme_was_shown_orders_nothing_elsewhere(world, foreign, mallory):
    facts = {"cloud": "c", "region": "r", "instance_type": "t", "rental_type": "r", "hardware": "h", "price": 100}
    signed = Orders(Order.new("gpu", hours=Decimal(2), **facts), 1).sign(world.connection, world.people["ada"])
    before = everything()
    for connection in (world.connection, foreign.connection):
        form = {"connection": connection.pk, "order": signed, "reason": "mine"}
        assert mallory.post("/engines/new/cloud/order/", form)["Location"].startswith("/engines/new/cloud/")
    assert changed(before) == set()


def test_a_ticket_for_a_new_engine_is_its_own_teams(world, foreign, mallory):
    before = everything()
    form = {"name": "mine", "connection": foreign.connection.pk, "reason": "mine"}
    form["ticket"] = issue(world.team, world.people["ada"])
    assert mallory.post("/engines/new/", form).status_code == 422
    assert changed(before) == set()


def test_what_acme_was_shown_approves_nothing_elsewhere(world, foreign, mallory):
    before = everything()
    mallory.post(foreign.url("cloud-time-approve"), {"digest": world.proposal.digest, "reason": "mine"})
    acmes = many.digest(Proposal.objects.of(world.team).filter(batch=world.purchases))
    mallory.post(foreign.url("batch-approve"), {"digest": acmes, "reason": "mine"})
    assert changed(before) == set()

    mallory.post(foreign.url("cloud-time-approve"), {"digest": foreign.proposal.digest, "reason": "mine"})
    assert Operation.objects.of(foreign.team).filter(pk=foreign.proposal.pk).exists()


def test_nothing_of_acmes_is_tried_again(world, foreign, mallory):
    earlier = world.operations["failed"]
    for name in ("engine-drain", "engine-stop", "engine-extend"):
        page = mallory.get(f"{foreign.url(name)}?retry_of={earlier.pk}")
        assert page.status_code == 200
        assert not OURS.search(page.content.decode())
    assert mallory.get(f"/engines/many/drain/?retry={world.batch.pk}").status_code == 404

    path = f"{foreign.url('engine-drain')}?retry_of={earlier.pk}"
    made = {"ticket": hidden(mallory.get(path), "ticket"), "reason": "mine", "deadline": "2"}
    assert mallory.post(path, made).status_code == 302
    assert Operation.objects.of(foreign.team).get(reason="mine").retry_of is None


def test_no_form_reaches_acmes_connection(world, foreign, mallory):
    theirs, before = world.connection.pk, everything()
    asked = [
        mallory.get(f"/engines/new/cloud/?connection={theirs}"),
        mallory.get(f"/engines/new/cloud/order/?connection={theirs}&offer=x"),
        mallory.get(f"/engines/new/waiting/?connection={theirs}&name=Said+by"),
        mallory.post("/keys/", {"connection": theirs, f"c{theirs}-label": "x", f"c{theirs}-secret": "inf_x"}),
        mallory.post("/engines/new/", {"connection": theirs, "name": "mine", "reason": "mine", "ticket": "x"}),
    ]
    assert [answer.status_code for answer in asked] == [200, 302, 404, 422, 422]
    assert [OURS.search(answer.content.decode()) for answer in asked] == [None] * 5
    assert changed(before) == set()


def test_nobody_is_made_a_member_of_a_team_that_a_form_names(world, foreign, mallory):
    form = {"email": "new@elsewhere.example", "role": "viewer", "team": world.team.pk, "slug": world.slug}
    mallory.post("/team/invite/", form)
    mallory.post(foreign.url("member-role"), {"role": "operator", "team": world.team.pk})
    assert world.team.invitations.count() == 1
    assert set(world.team.memberships.values_list("role", flat=True)) == set(CAST.values())


LISTS = [
    ("/engines/", Engine, ("name", "id")),
    ("/operations/", Operation, ("-requested_at", "id")),
    ("/audit/", Entry, ("-number",)),
    ("/cloud-time/", LedgerEntry, ("-at", "id")),
]


@pytest.mark.parametrize(("path", "model", "order"), LISTS)
def test_a_cursor_is_its_own_teams(world, mallory, path, model, order):
    """Where Acme's list goes on, says nothing to others: not even how far their names reach."""
    row = model.objects.of(world.team).latest("pk")
    cursor = _sign(row, order, f"{model._meta.label_lower}:{world.team.pk}", backward=False)
    assert browser_of(world.people["ada"]).get(path, {"cursor": cursor}).context["bad_cursor"] is False
    assert mallory.get(path, {"cursor": cursor}).context["bad_cursor"] is True


QUERIES = ["q={0.uid}", "q=Said", "team={0.slug}", "team={0.team.pk}", "engine={0.uid}", "connection={0.connection.pk}"]
QUERIES += ["actor=ada@acme", "target={0.uid}", "q=request-of-acme", "q={0.batch.pk}", "batch={0.batch.pk}", "all=1"]


@pytest.mark.parametrize("query", QUERIES)
def test_no_filter_reaches_another_team(world, foreign, mallory, query):
    asked = query.format(world)
    for path in ("/engines/", "/operations/", "/audit/", "/cloud-time/", "/engines/many/drain/"):
        page = mallory.get(f"{path}?{asked}").content.decode()
        shown = re.sub(r'value="[^"]*"|\?[^"]*"|<span>[^<]*: [^<]*</span>', "", page)  # all but the filter, said back
        assert "Said by Acme" not in page
        assert f"/engines/{world.uid}/" not in shown
    for kind in ("csv", "jsonl"):
        answer = mallory.post(f"/audit/export/?{asked}", {"format": kind})
        said = b"".join(answer.streaming_content).decode() if answer.streaming else ""
        assert "Said by Acme" not in said


def test_the_ledger_has_ones_own_purchases_alone(world, foreign, mallory):
    said = mallory.post("/cloud-time/ledger.csv").content.decode()
    assert "Said by Mallory" in said
    assert not OURS.search(said)


def test_a_team_one_is_not_in_cannot_be_switched_to(world, mallory):
    assert mallory.post("/team/switch/", {"team": world.slug}).status_code == 404
    assert "Said by Acme" not in mallory.get("/team/").content.decode()


def test_a_stream_is_of_the_readers_team_whatever_its_address_says(world, foreign, mallory, monkeypatch):
    seen, of = [], Viewer.of
    monkeypatch.setattr(Viewer, "of", lambda request: seen.append(of(request)) or seen[-1])
    mallory.get(f"/live/?team={world.slug}&topics=engine-{world.uid}&channel=live:{world.team.pk}")
    assert [viewer.team_id for viewer in seen] == [foreign.team.pk]


def test_a_page_of_another_team_is_loaded_anew(world, mallory):
    """Its reader has changed the team in another tab: what the page asks for would be the other team's."""
    answer = mallory.get("/engines/", headers={"HX-Request": "true", "HX-Target": "fleet", "X-Team": world.slug})
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""
