"""The measures of the audit log. AUDIT_ENTRIES=1000000 makes the long log of the reliability bar; it takes minutes."""

import hashlib
import itertools
import os
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from engines import snapshots
from engines.enums import State
from engines.models import Engine, Operation
from engines.operations.request import request
from portal.accounts.models import Membership, Team, User
from portal.audit import guard
from portal.audit.filters import EntryFilter
from portal.audit.log import digest
from portal.audit.models import Entry, Head
from portal.audit.origin import Origin
from portal.audit.rows import between
from portal.audit.verify import verify
from portal.audit.views import listed
from portal.keyset import paginate
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.engines.conftest import dto, wish

ENTRIES = int(os.environ.get("AUDIT_ENTRIES", "200000"))
SMALL = 10_000
START = datetime(2026, 1, 1, tzinfo=UTC)
FILTER = {"actor": "Person 07", "action": "engine.drain", "since": "2026-01-01T00:00", "until": "2030-01-01T00:00"}


def row(name, ratio, goal, what):
    return {"id": name, "ratio": ratio, "goal": goal, "verdict": "ok" if ratio <= goal else "miss", "what": what}


def written(size):
    """Return a team with a whole log of that length, and its Auditor."""
    name = f"audit-{Team.objects.count()}"
    team = Team.objects.create(slug=name, name="Bench")
    user = User.objects.create_user(f"{name}@example.com")
    Membership.objects.create(user=user, team=team, role="auditor")
    previous = "0" * 64
    for start in range(0, size, 10_000):
        batch = []
        for number in range(start + 1, min(start + 10_000, size) + 1):
            entry = Entry(
                team=team, number=number, at=START + timedelta(seconds=30 * number), actor_id=user.pk,
                actor_name=f"Person {number % 20:02}", role="operator", address="192.0.2.7",
                action="engine.drain" if number % 3 else "operation.succeeded", target_type="engines.engine",
                target_id=f"eng_{number % 400}", target_name=f"gpu-{number % 400}", reason="maintenance of the rack",
                after={"state": "draining", "deadline": "60"}, request_id=f"{number:032x}", prev_hash=previous,
            )  # fmt: skip
            entry.hash = previous = digest(entry)
            batch.append(entry)
        Entry.objects.bulk_create(batch)
    Head.objects.create(team=team, number=size, hash=previous, at=START + timedelta(seconds=30 * size))
    with database.cursor() as cursor:
        cursor.execute("ANALYZE audit_entry" if database.vendor == "postgresql" else "ANALYZE")
    return team, user


def emptied():
    guard.lower(database)
    Entry.objects.all().delete()
    guard.put_up(database)
    Head.objects.all().delete()


def page(interleaved):
    """B10: a filtered page of a long log beside plain SQL, and the whole HTML page beside that of a short log."""
    team, user = written(ENTRIES)
    _, small_user = written(SMALL)
    asked = type("Asked", (), {"team": team})()
    statement = (
        "SELECT * FROM audit_entry WHERE team_id = %s AND actor_name = %s AND action = %s AND number BETWEEN 1 AND %s"
        " ORDER BY number DESC LIMIT 101"
    )

    rows = listed(EntryFilter(FILTER, queryset=Entry.objects.of(team), request=asked).qs)

    def ours():
        for _ in range(20):
            found = paginate(rows, order=("-number",), cursor="", limit=100, salt="bench")
        assert len(found.rows) == 100

    def peer():
        for _ in range(20):
            with database.cursor() as cursor:
                cursor.execute(statement, [team.pk, "Person 07", "engine.drain", ENTRIES])
                assert len(cursor.fetchall()) == 101

    clients = []
    for one in (user, small_user):
        clients.append(Client())
        clients[-1].force_login(one)
    query = {"actor": "Person 07", "action": "engine.drain", "until": "2030-01-01T00:00"}
    with CaptureQueriesContext(database) as queries:
        assert len(clients[0].get("/audit/", query).context["page"]["rows"]) == 50
    assert not [one for one in queries if "OFFSET" in one["sql"] or "COUNT(" in one["sql"]]
    a, b = interleaved(ours, peer)
    c, d = interleaved(lambda: clients[0].get("/audit/", query), lambda: clients[1].get("/audit/", query))
    emptied()
    return [
        row("B10", a / b, 3.0, f"100 rows of {ENTRIES} entries, filter read / plain SQL"),
        row("B10", c / d, 1.5, f"HTML page of {ENTRIES} entries / of {SMALL}"),
    ]


def chain(interleaved):
    """B11: checking a long log beside hashing the same bytes (as time, so 20 is the bar's 0.05), and one more entry."""
    team, _ = written(ENTRIES)
    texts = [entry.text for entry in between(team, 1, ENTRIES)]

    def ours():
        assert verify(team) == (ENTRIES, None)

    def peer():
        previous = "0" * 64
        for text in texts:
            previous = hashlib.sha256(f"{previous}{text}".encode()).hexdigest()
        assert previous == Head.objects.get(team=team).hash

    a, b = interleaved(ours, peer, rounds=3)
    emptied()
    return [
        row("B11", a / b, 20.0, f"verify of {ENTRIES} entries / bare SHA-256 of the same bytes"),
        append(interleaved),
    ]


def append(interleaved):
    """B11, its other half: drains asked for and recorded, beside the same requests without the log."""
    team = Team.objects.create(slug="append", name="Append")
    user = User.objects.create_user("append@example.com")
    connection = Connection.objects.create(team=team, name="API", base_url="http://127.0.0.1:9")
    key = store(user=user, connection=connection, secret=Secret("inf_x"), label="x", scopes=["*"])
    page = [dto(uid=f"eng_{n}", name=f"engine-{n}") for n in range(500)]
    snapshots.apply(connection, page, read_at=timezone.now())
    engines = itertools.cycle(Engine.objects.filter(connection=connection))

    def ours():
        Operation.objects.all().update(state=State.SUCCEEDED)
        for engine in itertools.islice(engines, 50):
            request(wish(), engine=engine, user=user, key=key, origin=Origin(), now=timezone.now())

    def peer():
        with patch("engines.operations.request.audit"):
            ours()

    a, b = interleaved(ours, peer)
    return row("B11", a / b, 1.5, "a drain asked for with its entry / without")


MEASURES = {"B10": page, "B11": chain}
