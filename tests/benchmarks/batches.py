"""The measures of batches, with the product's broker and two of its workers as real processes.

This file is the bench's side, and `python -m tests.benchmarks.batches URL` the portal's: it clicks, in the database of
those workers.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from html import unescape

from tests.harness import place, wait_for

BATCH = int(os.environ.get("BATCH_ENGINES", "2000"))
FLEET = int(os.environ.get("WATCHED_FLEET", "10000"))
WATCHED = (1, 100, 1000, 5000)
ROUNDS = int(os.environ.get("BATCH_ROUNDS", "3"))
WINDOW = 15.0  # seconds
PAGE = 100
MOST_SECONDS = 300


def row(name, ratio, goal, what):
    return {"id": name, "ratio": ratio, "goal": goal, "verdict": "ok" if ratio <= goal else "miss", "what": what}


def with_workers(kind):
    """Have the portal's side measure that, with two workers and an API at hand; return its rows."""
    from portal import services, up

    command = [sys.executable, "-m", "tests.benchmarks.mock_api"]
    with place() as one, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as api:
        site = up.Site(one)
        try:
            up.prepare(one, time.sleep)
            workers = services.worker(one)
            second = replace(workers, name="worker-2", argv=(*workers.argv, "-n", "second@%h"))
            for spec in (services.broker(one), workers, second):
                up.wait_until_ready(site.launch(spec), time.sleep)
            url = f"http://127.0.0.1:{api.stdout.readline().strip()}"
            spec = one.spec("bench", sys.executable, "-m", "tests.benchmarks.batches", kind, url)
            environment = {**os.environ, **spec.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}
            done = subprocess.run(spec.argv, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        finally:
            site.stop()
            api.kill()
    return [row(*each) for each in json.loads(done.stdout.splitlines()[-1])]


def bulk_drain(_):
    """B3: a click that drains a fleet until every outcome is recorded, beside a loop of bare POSTs: as time, of which 4
    is the goal of 0.25 times its throughput. (It must reach 0.10.)"""
    return with_workers("drain")


def watching(_):
    """B5: what watching costs in requests, for each operation and reading, beside one GET each or the whole list."""
    return with_workers("watch")


MEASURES = {"B3": bulk_drain, "B5": watching}


# From here on: the portal's side.


class Portal:
    """A team of its own on a fleet of its own, and somebody who clicks."""

    def __init__(self, url, name, engines):
        import httpx
        from django.test import Client
        from django.utils import timezone

        from engines import snapshots
        from engines.api.client import EnginesClient
        from portal.accounts.models import Membership, Team, User
        from portal.vault.keys import Secret, store
        from portal.vault.models import Connection

        self.address = f"{url}/{name}"
        httpx.put(self.address, json={"engines": engines}).raise_for_status()
        self.team = Team.objects.create(slug=name, name=name)
        user = User.objects.create_user(f"{name}@example.com")
        Membership.objects.create(user=user, team=self.team, role="admin")
        later = timezone.now() + timezone.timedelta(days=1)
        self.connection = Connection.objects.create(
            team=self.team, name="API", base_url=self.address, refresh_due_at=later
        )
        key = Secret("inf_bench")
        self.key = store(user=user, connection=self.connection, secret=key, label="x", scopes=["*"])
        with EnginesClient(base_url=self.address, key=key) as client:
            for page in client.all(limit=PAGE):
                snapshots.apply(self.connection, page["items"], read_at=timezone.now())
        self.client = Client(SERVER_NAME="127.0.0.1")
        self.client.force_login(user)

    def asked(self):
        import httpx

        return httpx.get(self.address).json()

    def close(self):
        """Leave the workers nothing to do here, once they have done what they are at."""
        from django.utils import timezone

        from engines.models import Engine, Operation
        from portal.vault.models import Connection

        rows = Connection.objects.filter(pk=self.connection.pk)
        rows.update(refresh_due_at=timezone.now() + timezone.timedelta(days=1))
        wait_for(
            lambda: rows.exclude(refresh_lease_until__gt=timezone.now()).exists(), MOST_SECONDS, "end of the reading"
        )
        Operation.objects.of(self.team).delete()
        Engine.objects.of(self.team).delete()
        self.connection.delete()


def measure_drain(url):
    pairs = []
    for number in range(ROUNDS + 1):
        portal = Portal(url, f"r{number}", BATCH)
        ours = clicked(portal)
        assert portal.asked()["drains"] == BATCH
        portal.close()
        pairs.append((ours, posted(f"{url}/p{number}")))
    ours, peer = (statistics.median(times) for times in zip(*pairs[1:], strict=True))
    what = f"{BATCH} engines drained, click → all recorded / a loop of bare POSTs: {peer / ours:.2f} × its throughput"
    return [("B3", ours / peer, 4.0, f"{what} (goal 0.25, must 0.10)")]


def clicked(portal):
    """Return the seconds from the click to the last outcome."""
    from engines.models import Operation

    path = "/engines/many/drain/?all=1"
    page = portal.client.get(path).content.decode()
    ticket = unescape(re.search(r'name="ticket" value="([^"]+)"', page)[1])
    words = {"reason": "bench", "deadline": "2", "ticket": ticket, "despite": "on"}
    begun = time.perf_counter()
    answer = portal.client.post(path, words)
    assert answer.status_code == 302, answer.content
    answered = time.perf_counter() - begun
    waiting = Operation.objects.of(portal.team).filter(state__in=["requested", "sending"])
    while waiting.exists():
        assert time.perf_counter() - begun < MOST_SECONDS
        time.sleep(0.05)
    seconds = time.perf_counter() - begun
    assert Operation.objects.of(portal.team).count() == BATCH
    print(f"click answered after {answered:.2f} s, all recorded after {seconds:.2f} s", file=sys.stderr)
    return seconds


def posted(address):
    import httpx

    httpx.put(address, json={"engines": BATCH}).raise_for_status()
    begun = time.perf_counter()
    with httpx.Client(base_url=address) as client:
        for number in range(BATCH):
            client.post(f"{address}/engines/eng_{number}/drain").raise_for_status().json()
    print(f"posted in {time.perf_counter() - begun:.2f} s", file=sys.stderr)
    return time.perf_counter() - begun


def measure_watch(url):
    from engines.models import Engine, Operation

    portal = Portal(url, "watched", FLEET)
    idle = over_window(portal)
    engines = list(Engine.objects.of(portal.team).order_by("name")[: max(WATCHED)])
    found = []
    for number in (number for number in WATCHED if number <= FLEET):
        Operation.objects.of(portal.team).delete()
        under_way(portal, engines[:number])
        asked = over_window(portal)
        # What is read of an idle fleet too is neither a cost of watching, nor a reading that it pays for.
        passes, lists = (asked[name] - idle[name] for name in ("passes", "lists"))
        readings = passes + asked["gets"] / number
        bound = min(1.0, -(-FLEET // PAGE) / number)
        print(number, asked, idle, file=sys.stderr)
        ratio = (asked["gets"] + lists) / (number * readings) / bound
        found.append(("B5", ratio, 1.1, f"requests to watch {number} of {FLEET} / the bound, {readings:.1f} readings"))
    portal.close()
    return found


def under_way(portal, engines):
    """Drains that were accepted a moment ago, of engines that the API says are draining."""
    import uuid

    from django.utils import timezone

    from engines.models import Operation

    now = timezone.now()
    later = now + timezone.timedelta(hours=2)
    Operation.objects.bulk_create(
        Operation(
            id=uuid.uuid4(), team=portal.team, engine=engine, engine_name=engine.name, verb="drain", state="working",
            reason="bench", requested_name="bench", role="admin", request_id="bench", key_label="x", requested_at=now,
            deadline_at=later, moved_at=now, sent_at=later, attempts=1,
        )
        for engine in engines
    )  # fmt: skip


def over_window(portal):
    """Return what the API was asked in a window that begins with a whole pass."""
    from django.utils import timezone

    from portal.vault.models import Connection

    rows = Connection.objects.filter(pk=portal.connection.pk)
    rows.update(refresh_due_at=timezone.now(), refreshed_at=None)
    before = portal.asked()
    time.sleep(WINDOW)
    after = portal.asked()
    rows.update(refresh_due_at=timezone.now() + timezone.timedelta(days=1))
    time.sleep(1)
    return {name: after[name] - before[name] for name in after}


def main():
    import django

    django.setup()
    measure = {"drain": measure_drain, "watch": measure_watch}[sys.argv[1]]
    print(json.dumps(measure(sys.argv[2])))


if __name__ == "__main__":
    main()
