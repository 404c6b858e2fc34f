"""The product whole, with two workers, whose calls of the API go through a proxy; and the engines people work on."""

import json
import re
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
from prometheus_client.parser import text_string_to_metric_families as parsed

from engines.agent.version import VERSION
from portal import fleet, services, up
from tests.harness import PASSWORD, Stack, csrf, wait_for
from tests.nemesis.proxy import Proxy

BUYER = "engines:read,engines:write,billing:read,apikeys:write"
PEOPLE = {  # an Admin adds engines and orders machines, the others are refused
    "admin@demo.example": "admin",
    "billing@demo.example": "billing",
    "second@demo.example": "admin",
    "olga@demo.example": "operator",
}
# What `ask` writes on a command's stdin is JSON, so that is what they type.
PASSWORDS = {email: PASSWORD if email in up.PEOPLE else json.dumps(PASSWORD) for email in PEOPLE}
OWN = {"north": 2, "south": 2}  # engines on hosts of the team's own, and their workers
HOST, NEW = "host-", 2  # how the engines are called that people add, and how many of them are started
ORDERED, MACHINE = "machine-", "local/cpu-1/here/on_demand"  # how those are called that people rent, and what they are
VERSIONS = ("stable", "canary", VERSION)
GRACE = 60  # seconds: longer than any task, so that not even a stop cuts one
RAISE = 2  # dollars
LIMITS = {
    "operation_hours": "168",
    "operation_cost": "500",
    "approval_cost": "2",
    "user_day": "100000",
    "team_day": "3",  # raised again and again: there is always little left
    "team_month": "100000",
    "engine_hours": "10000",
}


def second_worker(place):
    spec = services.worker(place)
    return replace(spec, name="worker-2", argv=(*spec.argv, "-n", "second@%h"))


class Fleet(Stack):
    START = {**Stack.START, "worker-2": second_worker, "cloud": services.cloud}

    def __init__(self, place, random, rented):
        super().__init__(replace(place, environment={**place.environment, "LONGEST_PAID_HOURS": "20000"}))
        self.proxy, self.sockets = (Proxy(place.api_port, random) for _ in range(2))
        self.rented = [f"rented-{number}" for number in range(rented)]
        self.most_ordered = rented // 2  # each is a process here
        self.ordered, self.keys_shown = [], []  # by people's threads
        self.own, self.added = [], []

    def __exit__(self, *error):
        super().__exit__(*error)
        self.proxy.close()
        self.sockets.close()

    def make_demo(self):
        wanted = {email: (email, BUYER) for email in PEOPLE}
        wanted["all"] = ("tests", f"{BUYER},tasks:read,tasks:write")
        self.keys = up.make_keys(self.place, wanted, time.sleep)
        people = {email: self.keys[email] for email in up.PEOPLE if email in self.keys}
        given = {"password": PASSWORD, "base_url": f"http://127.0.0.1:{self.proxy.port}", "keys": people}
        up.ask(self.place, "make_demo", given, time.sleep)
        up.ask(self.place, "set_balance", None, time.sleep, words=("--team", "demo", "--dollars", "100000"))
        for email, role in PEOPLE.items():
            if email not in people:
                self._join(email, role)
        browser = self.sign_in("admin@demo.example")
        browser.post("/cloud-time/limits/", data=LIMITS | {"reason": "the run"} | csrf(browser)).raise_for_status()

    def _join(self, email, role):
        words = ("--team", "demo", "--email", email, "--role", role)
        up.ask(self.place, "add_member", PASSWORD, time.sleep, words=words)

    def add_key(self, browser, email):
        """Enter the person's key, as that person does."""
        (connection,) = self.query("SELECT id FROM vault_connection")[0]
        words = {"connection": connection, f"c{connection}-label": "mine", f"c{connection}-secret": self.keys[email]}
        answer = browser.post("/keys/", data=words | csrf(browser)).raise_for_status()
        assert "was checked and" in answer.text, answer.text

    def furnish(self):
        """Start the engines; return the portal's ids of the rented and of the own ones."""
        rented = [self._rent(name) for name in self.rented]
        for name, cpus in OWN.items():
            self._launch(name, cpus, self.keys["all"])
        self.own = [wait_for(lambda n=name: self.running_engine(n), 60, f"{name} running") for name in OWN]
        for name in self.rented:
            wait_for(lambda n=name: self.running_engine(n), 60, f"{name} running")
        for uid in (*rented, *self.own):
            self.in_the_portal(uid)
        return rented, self.own

    def _launch(self, name, cpus, key):
        """Start an engine that is one file, which can be updated."""
        through, program = replace(self.place, api_port=self.sockets.port), fleet.program(self.place, name, VERSION)
        self.site.launch(services.engine(through, name, cpus, key, program, grace=GRACE))

    def _rent(self, name):
        until = datetime.now(UTC) + timedelta(hours=8)
        body = {
            "name": name,
            "instance": {"cloud": "local", "region": "here", "shade_instance_type": "cpu-2"},
            "auto_delete": {"date_threshold": until.isoformat()},
        }
        with self.api() as api:
            return api.post("/engines", json=body).raise_for_status().json()["id"]

    def start_ended_engines(self):
        """What was drained or stopped has ended by itself; somebody starts it again on its host."""
        for child in self.site.children:
            if child.spec.may_end and not child.running:
                child.start()

    def add_engines(self):
        """Somebody follows the page of a new engine on its host: not every time, as this is one machine."""
        shown = {name: key for name, key in list(self.keys_shown) if name not in self.added}
        for name, key in list(shown.items())[: NEW - len(self.added)]:
            self._launch(name, 1, key)
            self.added.append(name)

    def command(self, *words):
        """Run one of manage.py's commands; return what it printed."""
        return up.ask(self.place, words[0], None, time.sleep, words=words[1:])

    def upstream(self, sql):
        """The rows of a query to the control plane's database."""
        return self.query(sql, "CONTROLPLANE_DATABASE_URL", "controlplane.sqlite3")

    def numbers(self):
        """What the portal says of itself to Prometheus: [(name, labels, value)]."""
        text = httpx.get(f"{self.place.portal_url}/metrics", timeout=20, trust_env=False).raise_for_status().text
        return [(each.name, each.labels, each.value) for family in parsed(text) for each in family.samples]

    def broker(self, *words):
        """Say something to the broker; it may be gone."""
        text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(self.place.broker))
            connection.sendall(text.encode())
            return connection.recv(1000)

    def taken(self):
        """The ids of all tasks that engines took, one for each time."""
        logs = [self.place.logs / f"{name}.log" for name in (*OWN, *self.added)]
        logs += (self.place.data / "cloud" / "machines").glob("*/engine.log")
        return [task for log in logs for task in re.findall(r"task (\S+) taken", log.read_text(errors="replace"))]
