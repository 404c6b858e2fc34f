"""The measures, by the ids of the reliability bar."""

import math
from datetime import timedelta

import httpx
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from engines import snapshots
from engines.models import Engine
from portal.accounts.models import Membership, Team, User
from portal.vault.keys import Secret, store
from portal.vault.models import Connection
from tests.engines.conftest import dto
from tests.engines.scripted_api import ScriptedApi

FLEET = 10_000


def row(name, ratio, goal, what):
    return {"id": name, "ratio": ratio, "goal": goal, "verdict": "ok" if ratio <= goal else "miss", "what": what}


def fleet(size):
    """Return a signed-in superuser of a fresh team with `size` engines, and its connection."""
    name = f"bench-{Team.objects.count()}"
    team = Team.objects.create(slug=name, name="Bench")
    user = User.objects.create_user(f"{name}@example.com", is_staff=True, is_superuser=True)
    Membership.objects.create(user=user, team=team, role="admin")
    connection = Connection.objects.create(team=team, name="API", base_url=f"http://127.0.0.1:9/{name}")
    for start in range(0, size, 500):
        page = [dto(uid=f"eng_{n}", name=f"engine-{n:05}", busy=["task"] * (n % 3)) for n in range(start, start + 500)]
        snapshots.apply(connection, page[: size - start], read_at=timezone.now())
    client = Client()
    client.force_login(user)
    return client, connection


def get(client, url):
    answer = client.get(url)
    assert answer.status_code == 200, (url, answer.status_code)


def fleet_page(interleaved):
    """B1: the fleet page of 10,000 engines beside Django admin's changelist of the same table."""
    client, _ = fleet(FLEET)
    with CaptureQueriesContext(
        database,
    ) as queries:
        get(client, "/engines/")
    count = len(queries)  # before the next request empties the list
    ours, peer = interleaved(lambda: get(client, "/engines/"), lambda: get(client, "/admin/engines/engine/"))
    Engine.objects.all().delete()
    return [row("B1", ours / peer, 0.6, f"fleet page / admin changelist, {FLEET} engines, {count} queries")]


def growth(interleaved):
    """B2: how the fleet page's time grows from 100 to 10,000 engines: the exponent of N."""
    small, _ = fleet(100)
    large, _ = fleet(FLEET)
    a, b = interleaved(lambda: get(small, "/engines/"), lambda: get(large, "/engines/"))
    Engine.objects.all().delete()
    return [row("B2", math.log(b / a) / math.log(FLEET / 100), 0.10, "growth exponent of the fleet page, 100 → 10,000")]


def mirror(interleaved):
    """B12: one pass over an unchanged fleet beside a bare httpx loop over the same pages."""
    api = ScriptedApi()
    api.engines = {f"eng_{n}": dto(uid=f"eng_{n}", name=f"engine-{n:05}") for n in range(FLEET)}
    team = Team.objects.create(slug="mirror", name="Mirror")
    user = User.objects.create_user("mirror@example.com")
    Membership.objects.create(user=user, team=team, role="operator")
    connection = Connection.objects.create(team=team, name="API", base_url=api.url)
    store(user=user, connection=connection, secret=Secret("inf_x"), label="x", scopes=["*"])

    def ours():
        Connection.objects.filter(pk=connection.pk).update(refresh_due_at=None, refreshed_at=None)
        snapshots.refresh(connection.pk, timezone.now() + timedelta(hours=1))
        assert not Connection.objects.get(pk=connection.pk).last_error

    def peer():
        cursor = ""
        with httpx.Client(base_url=api.url) as client:
            while cursor is not None:
                page = client.post("/engines/list", json={"cursor": cursor, "limit": 100}).json()
                cursor = page["next_cursor"]

    a, b = interleaved(ours, peer, rounds=5)
    api.close()
    Engine.objects.all().delete()
    return [row("B12", a / b, 8.0, f"pass over {FLEET} unchanged engines / bare httpx + json loop")]


MEASURES = {"B1": fleet_page, "B2": growth, "B12": mirror}
