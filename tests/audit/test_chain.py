"""The audit chain: what is written comes back as it was hashed, and concurrent writers keep it whole."""

import re
import threading
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from portal.audit.labels import LABELS
from portal.audit.log import record
from portal.audit.models import Entry, Head
from portal.audit.verify import verify
from tests.audit.conftest import write


@pytest.mark.django_db
def test_the_command_counts_a_whole_log(log, capsys):
    call_command("verify_audit")
    assert "5 entries" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize("after", [{"api_key": "x"}, {"key": {"Secret": "x"}}, {"keys": [{"access_token": "x"}]}])
def test_a_name_that_looks_like_a_secret_is_refused(acme, ada, after):
    with pytest.raises(ValueError, match="does not belong"):
        record(team=acme, actor=ada, action="key.stored", target=ada, after=after)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", ["nul \0 byte", 1e20, -0.0, 0.1, float("nan"), "\u202eright to left", (1, 2), {1: None}]
)
def test_odd_values_come_back_as_they_were_hashed(acme, ada, value):
    record(team=acme, actor=ada, action="key.stored", target=ada, reason="why\0", odd=value)
    assert verify(acme) == (1, None)


@pytest.mark.django_db
def test_the_log_outlives_its_people(log, ada):
    ada.delete()
    assert verify(log) == (5, None)


@pytest.mark.django_db
def test_what_is_rolled_back_leaves_no_entry(log, ada):
    with transaction.atomic():
        write(log, ada, count=1)
        transaction.set_rollback(True)
    assert verify(log) == (5, None)


@pytest.mark.django_db
def test_open_pages_hear_of_a_new_entry(acme, ada, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as waiting:
        write(acme, ada, count=1)
    assert [(message.team_id, message.topics) for message in waiting] == [(acme.pk, ("audit",))]


@pytest.mark.django_db
def test_each_team_has_a_chain_of_its_own(log, other_team, mallory):
    write(other_team, mallory, count=1)
    assert Entry.objects.get(team=other_team).number == 1


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_keep_the_chain_whole(acme, ada):
    def writer():
        write(acme, ada, count=5)
        connection.close()

    threads = [threading.Thread(target=writer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(acme) == (20, None)
    assert Head.objects.get(team=acme).number == 20


def test_every_action_in_the_code_has_its_words():
    from engines.enums import Verb
    from engines.operations.moves import AUDITED

    written = {f"engine.{verb}" for verb in Verb} | {f"operation.{state}" for state in AUDITED}
    sources = [path.read_text() for room in ("portal", "engines") for path in Path(room).rglob("*.py")]
    written |= {name for text in sources for name in re.findall(r'action="([a-z]+\.[a-z.-]+)"', text)}
    assert written <= set(LABELS)
