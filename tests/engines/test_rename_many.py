"""Many engines get new names from one pattern, which are shown, old beside new, before anything is asked."""

import re

import pytest

from engines.models import Batch, Engine, Operation
from engines.operations.together import send_batch
from portal import clock
from portal.audit.models import Entry
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.engines.conftest import dto, read

PATH = "/engines/many/rename/"
TAKEN = "is what another engine is called."


@pytest.fixture
def fleet(acme_connection, olgas_key):
    read(acme_connection, *[dto(uid=f"eng_{n}", name=f"old-{n:02}") for n in range(12)])


@pytest.fixture
def olgas(client_of, olga, fleet):
    return client_of(olga)


def few(pattern, *numbers):
    return {"pattern": pattern, "uid": [f"eng_{n}" for n in numbers or range(12)]}


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def look(client, query):
    return client.get(PATH, query)


def ask(client, query, change=lambda: None):
    """Look at the names and confirm them; `change` happens in between."""
    page = look(client, query)
    ticket = re.search(r'name="ticket" value="([^"]+)"', page.content.decode())[1]
    change()
    return client.post(page.request["PATH_INFO"] + "?" + page.request["QUERY_STRING"], said(ticket))


def said(ticket):
    return {"reason": "new rack", "deadline": "2", "ticket": ticket}


def names():
    return dict(Operation.objects.values_list("engine__uid", "parameters__name"))


def test_each_engine_gets_an_operation_with_a_name_of_its_own(olgas):
    answer = ask(olgas, few("{name}-b{n}", 3, 5))
    assert answer["Location"] == f"/batches/{Batch.objects.get().pk}/"
    assert names() == {"eng_3": "old-03-b1", "eng_5": "old-05-b2"}


def test_the_number_has_as_many_digits_as_the_last_one_needs(olgas):
    ask(olgas, few("rack-{n}"))
    assert sorted(names().values()) == [f"rack-{n:02}" for n in range(1, 13)]


def test_old_and_new_are_shown_of_each_engine(olgas):
    page = words(look(olgas, few("rack-{n}")))
    assert all(f"old-{n - 1:02} → rack-{n:02}" in page for n in range(1, 13))


def test_they_are_renamed_at_the_api(api, olgas):
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"old-{n:02}") for n in range(12)}
    ask(olgas, few("rack-{n}", 0, 1))
    send_batch(Batch.objects.get().pk, clock.now())
    assert [api.engines[uid]["name"] for uid in ("eng_0", "eng_1", "eng_2")] == ["rack-1", "rack-2", "old-02"]


def test_nothing_can_be_confirmed_before_a_name_is_entered(olgas):
    page = look(olgas, few("", 0))
    assert 'name="pattern"' in page.content.decode()
    assert 'name="reason"' not in page.content.decode()
    assert olgas.post(f"{PATH}?uid=eng_0", said("")).status_code == 409
    assert Operation.objects.count() == 0


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("rack", "2 engines would be called “rack”. Put {n} or {name} in."),
        ("{name}", "old-00 is called that already. Leave it out."),
        ("old-1{n}", f"“old-11” {TAKEN}"),
        ("{name}" + "x" * 95, "has more than 100 characters."),
        ("rack-{N}", "Only {name} and {n} are filled in. Take other braces out."),
        ("{name.__class__}{n}", "Only {name} and {n} are filled in. Take other braces out."),
        ("rack\u0007{n}", "A name has printable characters only"),
        ("rack\0{n}", "A name has printable characters only"),
    ],
)
def test_names_that_cannot_be_given_are_said_and_nothing_is_asked(olgas, pattern, problem):
    query = few(pattern, 0, 1)
    assert problem in words(look(olgas, query))
    assert ask(olgas, query).status_code == 409
    assert Operation.objects.count() == 0


def test_a_name_that_another_of_the_selected_has_is_taken_until_that_is_renamed(olgas):
    Engine.objects.filter(uid="eng_1").update(name="new-old-00")
    assert f"“new-old-00” {TAKEN}" in words(look(olgas, few("new-{name}", 0, 1)))


def test_a_name_is_free_at_another_api_and_once_its_engine_is_deleted(olgas, acme):
    other = Connection.objects.create(team=acme, name="Other", base_url="https://other.example")
    read(other, dto(uid="eng_x", name="rack-1"))
    Engine.objects.filter(uid="eng_9").update(name="rack-2", status="deleted")
    assert ask(olgas, few("rack-{n}", 0, 1)).status_code == 302


def test_a_name_with_braces_is_taken_as_it_is(olgas):
    Engine.objects.filter(uid="eng_0").update(name="{n}")
    ask(olgas, few("rack-{name}", 0))
    assert names() == {"eng_0": "rack-{n}"}


def test_an_engine_that_was_renamed_meanwhile_is_told(olgas):
    answer = ask(olgas, few("{name}-b", 0, 1), lambda: Engine.objects.filter(uid="eng_0").update(name="other"))
    assert (answer.status_code, Operation.objects.count()) == (422, 0)
    was = "old-00, to be called old-00-b"
    assert f"other was running and called {was}; it is running and called other, to be called other-b now." in words(
        answer
    )


def test_a_name_that_was_taken_meanwhile_is_told(olgas):
    answer = ask(olgas, few("rack-{n}", 0, 1), lambda: Engine.objects.filter(uid="eng_9").update(name="rack-2"))
    assert (answer.status_code, Operation.objects.count()) == (409, 0)
    assert f"“rack-2” {TAKEN}" in words(answer)


def test_an_engine_that_two_connections_list_is_renamed_once(olgas, olga, acme):
    other = Connection.objects.create(team=acme, name="Other", base_url="https://other.example")
    store(user=olga, connection=other, secret=Secret("inf_other"), label="Other", scopes=["engines:write"])
    read(other, dto(uid="eng_0", name="old-00"))
    ask(olgas, few("rack-{n}", 0, 1))
    assert Operation.objects.count() == 2
    assert [row["why"] for row in Batch.objects.get().not_asked] == [
        "It is listed by another connection too, and asked there."
    ]


def test_what_failed_is_tried_again_with_the_names_of_then(olgas):
    ask(olgas, few("rack-{n}", 0, 1, 2))
    Operation.objects.update(state="failed")
    Operation.objects.filter(engine__uid="eng_1").update(state="succeeded")
    Engine.objects.filter(uid="eng_1").update(name="rack-2")
    first = Batch.objects.get()
    ask(olgas, {"retry": first.pk})
    again = Operation.objects.filter(batch__retry_of=first)
    assert dict(again.values_list("engine__uid", "parameters__name")) == {"eng_0": "rack-1", "eng_2": "rack-3"}


def test_more_than_can_be_looked_at_are_left_out(olgas, monkeypatch):
    monkeypatch.setattr("engines.operations.rename.Rename.most", 3)
    assert "these are the first 3." in words(look(olgas, few("rack-{n}")))


def test_the_log_has_the_pattern(olgas):
    ask(olgas, few("rack-{n}", 0, 1))
    assert Entry.objects.get(action="batch.rename").detail["pattern"] == "rack-{n}"


def test_somebody_who_may_not_rename_is_refused(client_of, victor, fleet):
    assert look(client_of(victor), few("rack-{n}", 0)).status_code == 403
