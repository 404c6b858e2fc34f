"""E38: people click at random while everything dies, and afterwards both sides' books and all tasks are compared."""

import random
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from tests.harness import FINISHED, place
from tests.nemesis import books
from tests.nemesis.chaos import Nemesis
from tests.nemesis.fleet import PEOPLE, Fleet
from tests.nemesis.people import Person

SETTLING = 150  # seconds that everything may take to come to rest
QUIET_LOOKS = 3  # one after the other, as each is of several moments
OVER_A_LIMIT = (
    "SELECT 1 FROM audit_entry WHERE action = 'cloudtime.refused' AND CAST(detail AS TEXT) LIKE '%may spend%'"
)
INSISTED = "SELECT 1 FROM engines_moment WHERE text LIKE 'It is sent again by itself%'"
QUEUED = "SELECT count(behind_id), count(released_at) FROM engines_operation"
ENOUGH = 8  # purchases that the API has charged
CALM_AFTER = 8  # seconds after which no call of before is under way any more


@dataclass
class Report:
    wrong: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    blows: list[object] = field(default_factory=list)


class Feeder(threading.Thread):
    """Gives tasks to whatever engine takes them. An order without an answer is not counted: it may have arrived."""

    def __init__(self, fleet, random, done):
        super().__init__(daemon=True)
        self.fleet, self.random, self.done, self.fed = fleet, random, done, []

    def run(self):
        with self.fleet.api() as api:
            while not self.done.wait(self.random.uniform(0.1, 0.7)):
                body = {"app": "sleep", "input": {"seconds": round(self.random.uniform(0.2, 3), 1)}, "infra": "private"}
                with suppress(httpx.HTTPError):
                    answer = api.post("/run", json=body)
                    if answer.is_success:
                        self.fed.append(answer.json()["id"])


def soak(seconds, seed):
    """Rage for so long, let everything settle, and say what is wrong."""
    dice = random.Random(seed)
    rented = 4 if seconds < 300 else 8
    with place() as one, Fleet(one, random.Random(dice.random()), rented) as fleet:
        uids = fleet.furnish()
        done, report = threading.Event(), Report()
        people = [Person(email, fleet, uids, random.Random(dice.random()), done) for email in PEOPLE]
        for person in people[2:]:
            fleet.add_key(person.browser(), person.email)
        feeder = Feeder(fleet, random.Random(dice.random()), done)
        nemesis = Nemesis(fleet, random.Random(dice.random()), long_pauses=seconds >= 600)
        for thread in (*people, feeder):
            thread.start()
        try:
            nemesis.rage(seconds, lambda: len(books.held(fleet, "done")) >= ENOUGH)
        finally:
            done.set()
            nemesis.relent()
            report.blows = nemesis.blows
        for thread in (*people, feeder):
            thread.join(60)
        settle(fleet, feeder.fed)
        report.wrong = [line for person in people for line in person.wrong] + books.wrong(fleet, feeder.fed)
        report.facts = facts(fleet, people, feeder, nemesis)
        if report.wrong:
            report.facts["logs"] = keep_logs(fleet)
        return report


def settle(fleet, fed):
    """Wait until nothing moves any more by itself."""
    time.sleep(CALM_AFTER)
    # What need not be waited for: the leases of workers that died. A live one is past its call by now, or held up.
    # And the next reading of what is unknown, which may be minutes away.
    fleet.command("shell", "-c", LEASES)
    until, quiet = time.monotonic() + SETTLING, 0
    while time.monotonic() < until and quiet < QUIET_LOOKS:
        fleet.start_ended_engines()
        # The engines first: one that came back between the two looks would have what waited for it begin.
        late = any(list(check(fleet)) for check in LATE)
        moving = late or books.restless(fleet) or books.held(fleet, "held") or unfinished(fleet, fed)
        quiet = 0 if moving else quiet + 1
        time.sleep(0.5)


# What ended is started again: until it is there, its engine is about to change.
LATE = (books.away, books.added, books.mirror, books.doubts, books.alarms, books.attention)
LEASES = """
from django.utils.timezone import now
from engines.controlplane.models import Extension
from engines.enums import MONEY
from engines.models import Operation
Operation.objects.filter(state="unknown", verb__in=MONEY).update(next_at=now())
Operation.objects.filter(state__in=["checking", "sending"]).update(lease_until=now(), next_at=now())
Extension.objects.filter(state="held").update(next_at=now())
"""


def unfinished(fleet, fed):
    with fleet.api() as api:
        for task in reversed(fed):
            if api.get(f"/tasks/{task}").raise_for_status().json()["status"] < FINISHED:
                return task
    return None


def facts(fleet, people, feeder, nemesis):
    said = "SELECT o.verb, o.state, coalesce(x.outcome, ''), count(*) FROM engines_operation o"
    said += " LEFT JOIN engines_extension x ON x.operation_id = o.id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    return {
        "operations": [tuple(row) for row in fleet.query(said)],
        "clicks": {person.email: dict(person.clicks) for person in people},
        "connections": dict(fleet.proxy.drawn),
        "over a limit": len(fleet.query(OVER_A_LIMIT)),
        "charged upstream": len(books.held(fleet, "done")),
        "machines paid": len(fleet.upstream(books.PAID)),
        "sent again by themselves": len(fleet.query(INSISTED)),
        "queued, and let go": fleet.query(QUEUED)[0],
        "engines added": (len(fleet.keys_shown), len(fleet.added)),
        "tasks": len(feeder.fed),
        "blows": len(nemesis.blows),
    }


def keep_logs(fleet):
    """Copy the run's folder to where it outlives the run."""
    kept = tempfile.mkdtemp(prefix="nemesis-")
    shutil.copytree(fleet.place.data, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
    return kept
