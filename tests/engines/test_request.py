"""Asking for an operation: one row, one audit entry, once."""

import pytest
from django.db import transaction

from engines.enums import State
from engines.models import Operation
from engines.operations.request import Busy, Changed, request
from portal.audit.models import Entry
from portal.audit.origin import Origin
from tests.engines.conftest import NOW, wish

pytestmark = pytest.mark.django_db
ORIGIN = Origin(request_id="req-2", address="10.0.0.9", role="operator")


@pytest.fixture
def ask(engine, olga, olgas_key):
    return lambda wanted: request(wanted, engine=engine, user=olga, key=olgas_key, origin=ORIGIN, now=NOW)


def test_the_audit_entry_says_who_why_and_from_which_request(ask, olga):
    ask(wish())
    entry = Entry.objects.latest("number")
    assert (entry.action, entry.actor, entry.reason, entry.request_id) == (
        "engine.drain",
        olga,
        "kernel patch",
        "req-2",
    )


def test_the_longest_reason_fits_everywhere(ask):
    asked = ask(wish(reason="x" * 500))
    assert (len(asked.reason), len(asked.moments.get().text)) == (500, 300)


def test_the_longest_address_fits_as_a_name(ask, olga):
    olga.name, olga.email = "", f"{'x' * 200}@acme.example"
    assert len(ask(wish()).requested_name) == 150


def test_the_same_form_sent_twice_is_one_operation(ask):
    wanted = wish()
    assert ask(wanted).pk == ask(wanted).pk
    assert Operation.objects.count() == 1


def test_the_same_form_with_other_words_is_refused(ask):
    wanted = wish()
    ask(wanted)
    with pytest.raises(Changed):
        ask(wish(id=wanted.id, reason="another reason"))


def test_a_second_operation_on_a_busy_engine_is_refused_and_says_whose_is_open(ask):
    ask(wish())
    with pytest.raises(Busy, match="Drain gpu-1 is still open"):
        ask(wish())


def test_after_the_end_the_next_may_follow(ask):
    first = ask(wish())
    Operation.objects.filter(pk=first.pk).update(state=State.SUCCEEDED)
    assert ask(wish()).pk != first.pk


def test_nothing_is_left_of_a_request_that_was_rolled_back(ask):
    with transaction.atomic():
        ask(wish())
        transaction.set_rollback(True)
    assert Operation.objects.count() == 0
    assert not Entry.objects.filter(action="engine.drain").exists()
