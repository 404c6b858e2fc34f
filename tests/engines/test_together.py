"""A batch is sent several at a time: by the same rules as one operation, and with one pause for all of it."""

import contextlib
import threading
import uuid
from datetime import timedelta

import pytest

from engines.api.client import EnginesClient
from engines.api.errors import NoAnswer
from engines.bulk import Words, plan, start
from engines.enums import Verb
from engines.models import Batch, Engine, Operation
from engines.operations import sweep, together
from engines.operations.together import send_batch
from portal import clock
from portal.accounts.models import Membership
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.vault.models import StoredKey
from tests.engines.conftest import NOW, dto, read

NUMBER = 40


@pytest.fixture
def fleet(acme_connection, api, olgas_key):
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"e-{n:02}") for n in range(NUMBER)}
    read(acme_connection, *api.engines.values())


@pytest.fixture
def begin(acme, olga, fleet):
    def begun(verb=Verb.DRAIN, **words):
        made = plan(verb, Engine.objects.all(), team=acme, user=olga, role="operator")
        said = Words("r", timedelta(hours=2), **words)
        origin = Origin(request_id="req-7", role="operator")
        return start(made, said, batch_id=uuid.uuid4(), team=acme, user=olga, origin=origin, now=clock.now())

    return begun


def states():
    found = {}
    for state in Operation.objects.values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def posts(api):
    return [request for request in api.requests if request.startswith("POST") and "list" not in request]


def test_each_engine_is_asked_once(begin, api):
    send_batch(begin().pk, clock.now())
    assert sorted(posts(api)) == sorted(f"POST /engines/eng_{n}/drain" for n in range(NUMBER))
    assert states() == {"accepted": NUMBER}


def test_two_workers_at_once_ask_each_engine_once(begin, api, transactional_db, monkeypatch):
    batch = begin()
    monkeypatch.setattr(together, "_once", lambda _: contextlib.nullcontext(True))
    threads = [threading.Thread(target=alone, args=(batch.pk,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(posts(api)) == len(set(posts(api))) == NUMBER
    assert states() == {"accepted": NUMBER}


def alone(batch_id):
    from django.db import connection

    try:
        send_batch(batch_id, clock.now())
    finally:
        connection.close()


def test_the_sweep_finds_a_batch_that_nobody_was_woken_for(begin, api):
    batch = begin()
    jobs = [job for job in sweep.due(clock.now()) if job.func is send_batch]
    assert [job.args[0] for job in jobs] == [batch.pk]
    jobs[0]()
    assert states() == {"accepted": NUMBER}


def test_a_single_operation_comes_before_a_batch(begin, api, operation_of):
    begin()
    operation_of("eng_x")
    assert next(iter(sweep.due(clock.now()))).func is not send_batch


def test_an_api_that_asks_for_a_pause_gets_one_for_the_whole_batch(begin, api):
    for n in range(NUMBER):
        api.trouble[f"POST /engines/eng_{n}/drain"] = (429, "rate_limited")
    batch = begin()
    send_batch(batch.pk, clock.now())
    assert len(posts(api)) == 1
    assert states() == {"requested": NUMBER}
    assert not Operation.objects.filter(next_at__lte=clock.now()).exists()


def test_the_one_that_was_turned_away_is_the_first_to_be_sent_again(begin, api):
    batch = begin()
    first = Operation.objects.order_by("next_at", "pk").first().engine.uid
    api.trouble[f"POST /engines/{first}/drain"] = (429, "rate_limited")
    send_batch(batch.pk, clock.now())
    api.trouble.clear()
    api.requests.clear()
    Operation.objects.update(next_at=clock.now())
    send_batch(batch.pk, clock.now())
    assert posts(api)[0] == f"POST /engines/{first}/drain"


def test_no_answer_stays_unknown_and_is_not_sent_again(begin, api):
    batch = begin()
    first = Operation.objects.order_by("next_at", "pk").first()
    api.trouble[f"POST /engines/{first.engine.uid}/drain"] = "reset after"
    send_batch(batch.pk, clock.now())
    Operation.objects.filter(state="requested").update(next_at=clock.now())
    send_batch(batch.pk, clock.now())
    first.refresh_from_db()
    assert (first.state, len(posts(api))) == ("unknown", NUMBER)


def test_refusals_are_one_outcome_each(begin, api):
    for n in range(5):
        api.trouble[f"POST /engines/eng_{n}/drain"] = (409, "engine_offline")
    send_batch(begin().pk, clock.now())
    assert states() == {"refused": 5, "accepted": NUMBER - 5}


def test_purchases_are_never_sent_as_a_batch(begin, api):
    batch = begin()
    Operation.objects.update(verb="extend")
    send_batch(batch.pk, clock.now())
    assert (api.requests, states()) == ([], {"requested": NUMBER})


def test_who_lost_the_right_meanwhile_has_nothing_sent(begin, api, olga):
    batch = begin()
    Membership.objects.filter(user=olga).update(role="viewer")
    send_batch(batch.pk, clock.now())
    assert (posts(api), states()) == ([], {"cancelled": NUMBER})


def test_without_the_key_nothing_is_sent(begin, api):
    batch = begin()
    StoredKey.objects.all().delete()
    send_batch(batch.pk, clock.now())
    assert (posts(api), states()) == ([], {"cancelled": NUMBER})


@pytest.fixture
def handful_of(held):
    """Claims some of a batch, to be sent one after the other."""
    with together.ThreadPoolExecutor(1) as pool, together.ExitStack() as stack:

        def claim(batch, size):
            begun = held.boot()
            return together.Handful(together._claim(batch.pk, size, clock.now()), begun, pool, together.Clients(stack))

        yield claim


def test_a_worker_that_was_held_up_sends_nothing(handful_of, begin, api, held):
    handful = handful_of(begin(), 4)
    held.advance(seconds=together.WINDOW + 1)
    handful.send()
    assert (posts(api), states()) == ([], {"requested": NUMBER})


def test_nor_does_one_whose_claim_had_to_wait_for_the_database(begin, api, held, monkeypatch):
    claims = iter([lambda *asked: held.advance(seconds=together.WINDOW + 1) or claim(*asked), lambda *_: None])
    claim = together._claim
    monkeypatch.setattr(together, "_claim", lambda *asked: next(claims)(*asked))
    send_batch(begin().pk, clock.now())
    assert (posts(api), states()) == ([], {"requested": NUMBER})


def slow(monkeypatch, held, seconds, error=None):
    """Have each drain take so long, and what follows an answer be done before the next one; return the renewals."""
    followed, renewals = threading.Event(), []
    drain, go_on, renew = EnginesClient.drain, together.Handful._go_on, together.Handful._renew

    def slowly(self, uid):
        assert error or held.at == NOW or followed.wait(5)
        followed.clear()
        held.advance(seconds=seconds)
        if error:
            raise error
        return drain(self, uid)

    monkeypatch.setattr(EnginesClient, "drain", slowly)
    monkeypatch.setattr(together.Handful, "_go_on", lambda self: (go_on(self), followed.set()))
    monkeypatch.setattr(together.Handful, "_renew", lambda self: (renew(self), renewals.append(clock.now())))
    return renewals


def test_a_slow_api_does_not_cost_a_worker_its_claim(handful_of, begin, api, held, monkeypatch):
    handful = handful_of(begin(), 10)
    renewals = slow(monkeypatch, held, 4)
    handful.send()
    assert [(at - NOW).seconds for at in renewals] == list(range(4, 44, 4))
    assert states() == {"accepted": 10, "requested": NUMBER - 10}


def test_a_renewed_lease_is_as_long_as_the_first(handful_of, begin, held):
    handful = handful_of(begin(), 4)
    held.advance(seconds=14)
    handful._renew()
    assert set(Operation.objects.filter(state="sending").values_list("lease_until", "next_at")) == {
        (clock.now() + together.LEASE,) * 2
    }
    held.advance(seconds=14)
    assert taken_up(held, seconds=0) == []
    assert taken_up(held, seconds=1) == [sweep.recover_all]


def taken_up(held, seconds):
    """Return what the sweep does so much later about what a worker had claimed, and do it."""
    held.advance(seconds=seconds)
    jobs = [job for job in sweep.due(clock.now()) if job.func in (sweep.recover, sweep.recover_all)]
    for job in jobs:
        job()
    return [job.func for job in jobs]


def test_no_answer_is_no_progress_and_the_rest_is_not_sent(handful_of, begin, api, held, monkeypatch):
    handful = handful_of(begin(), 10)
    renewals = slow(monkeypatch, held, together.WINDOW + 1, NoAnswer("It did not answer."))
    handful.send()
    assert (renewals, states()) == ([], {"unknown": 1, "requested": NUMBER - 1})


def test_who_lost_one_meanwhile_renews_nothing(handful_of, begin, held):
    handful = handful_of(begin(), 4)
    Operation.objects.filter(pk=handful.operations[0].pk).update(state="unknown")
    held.advance(seconds=4)
    handful._renew()
    assert handful.claimed == held.boot() - 4
    assert not Operation.objects.filter(lease_until__gt=NOW + together.LEASE).exists()


def test_what_a_dead_worker_had_claimed_is_taken_up_in_one_go(handful_of, begin, held):
    handful_of(begin(), 20)
    assert taken_up(held, seconds=14) == []
    assert taken_up(held, seconds=1) == [sweep.recover_all]
    assert states() == {"unknown": 20, "requested": NUMBER - 20}
    assert taken_up(held, seconds=1) == []


def test_a_lease_that_is_renewed_just_in_time_is_not_taken_up(handful_of, begin, held):
    batch = begin()
    handful = handful_of(batch, 4)
    held.advance(seconds=15)
    handful._renew()
    sweep.recover_all(batch.pk, clock.now())
    assert states() == {"sending": 4, "requested": NUMBER - 4}


def test_one_that_cannot_be_read_before_it_is_sent_again_was_not_sent(begin, api):
    batch = begin()
    first = Operation.objects.order_by("next_at", "pk").first()
    Operation.objects.filter(pk=first.pk).update(attempts=1)
    api.trouble[f"GET /engines/{first.engine.uid}"] = (500, "internal_error")
    send_batch(batch.pk, clock.now())
    first.refresh_from_db()
    assert (first.state, first.attempts) == ("requested", 1)
    assert f"POST /engines/{first.engine.uid}/drain" not in posts(api)


def test_one_that_cannot_be_read_does_not_hold_up_the_rest(begin, api):
    batch = begin()
    Operation.objects.update(attempts=1)  # read before it is sent again
    first = Operation.objects.order_by("next_at", "pk").first()
    api.trouble[f"GET /engines/{first.engine.uid}"] = (500, "internal_error")
    send_batch(batch.pk, clock.now())
    first.refresh_from_db()
    assert states() == {"requested": 1, "accepted": NUMBER - 1}
    assert first.state == "requested"
    assert first.next_at > clock.now()


@pytest.mark.parametrize("answer", [(429, "rate_limited"), (503, "unavailable", ("Retry-After", "7")), "away"])
def test_an_api_that_asks_for_a_pause_while_it_is_read_gets_one(begin, api, answer):
    batch = begin()
    Operation.objects.update(attempts=1)
    if answer == "away":
        api.close()
    api.trouble |= {f"GET /engines/{uid}": answer for uid in api.engines}
    send_batch(batch.pk, clock.now())
    assert len(api.requests) == (0 if answer == "away" else 1)
    assert not Operation.objects.filter(next_at__lte=clock.now()).exists()


def test_a_worker_that_came_too_late_changes_nothing(handful_of, begin, api, held):
    handful = handful_of(begin(), 4)
    lost, *others = [each.pk for each in handful.operations]
    Operation.objects.filter(pk=lost).update(state="unknown", fence=9)
    assert {operation.pk for operation, _ in handful.send()} == set(others)
    assert Operation.objects.get(pk=lost).state == "unknown"


def test_the_log_has_every_refusal_once(begin, api):
    api.trouble["POST /engines/eng_3/drain"] = (409, "engine_offline")
    send_batch(begin().pk, clock.now())
    assert Entry.objects.filter(action="operation.refused", target_id="eng_3").count() == 1


def test_in_turns_the_rest_follows_when_readings_show_that_the_first_are_back(begin, api, acme_connection):
    batch = begin(Verb.UPDATE, said={"version": "stable"}, in_turn=True)
    for _ in range(20):
        send_batch(batch.pk, clock.now())
        assert Operation.objects.filter(state="accepted").count() <= NUMBER * 0.3
        after = clock.now() + timedelta(seconds=1)
        read(acme_connection, *[dto | {"engine_version": "v2"} for dto in asked(api)], at=after)
    assert states() == {"succeeded": NUMBER}
    assert Batch.objects.get().in_turn is False


def asked(api):
    uids = {request.split("/")[2] for request in posts(api)}
    return [api.engines[uid] for uid in uids]


@pytest.fixture
def operation_of(acme_connection, olga, olgas_key):
    from engines.operations.request import request
    from tests.engines.conftest import wish

    def made(uid):
        read(acme_connection, dto(uid=uid, name=uid))
        engine = Engine.objects.get(uid=uid)
        return request(wish(), engine=engine, user=olga, key=olgas_key, origin=Origin(role="operator"), now=clock.now())

    return made
