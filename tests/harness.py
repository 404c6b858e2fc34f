"""The product as real processes, for tests: on free ports, with a folder and databases of its own."""

import contextlib
import re
import shutil
import socket
import sqlite3
import tempfile
import time
from html import unescape
from pathlib import Path

import httpx
import psycopg

from portal import services, up
from portal.processes import Child
from portal.services import Place
from tests.migrated import FILES, own_database

PASSWORD = "a password for tests"
ALL = "engines:read,engines:write,tasks:read,tasks:write"
FINISHED = 10  # the contract's first task status that is final


def wait_for(condition, seconds, what):
    """Return the condition's first truthy value. Fails with `what` after that many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still no {what}"
        time.sleep(0.05)
    return value


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def folder():
    """A short temporary folder: a unix socket must fit in."""
    path = Path(tempfile.mkdtemp(prefix="stack-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def place(*, empty=False):
    """A place of its own, on free ports, with migrated databases; or with nothing in it."""
    with folder() as path:
        own = {key: url for alias in FILES for key, url in own_database(alias, path, empty=empty).items()}
        product = {"DJANGO_SETTINGS_MODULE": "portal.settings", **own}
        yield Place(path, free_port(), free_port(), path / "broker.sock", product)


class Stack:
    """Broker, control plane, portal, worker and beat, and the engines a test asks for."""

    START = {
        "broker": services.broker,
        "controlplane": services.control_plane,
        "portal": services.portal,
        "worker": services.worker,
        "beat": services.beat,
    }

    def __init__(self, place):
        self.place = place
        self.site = up.Site(place)
        self.keys = {}
        self.browsers = []

    def __enter__(self):
        try:
            self._begin()
        except BaseException:
            self.site.stop()
            raise
        return self

    def __exit__(self, *error):
        for browser in self.browsers:
            browser.close()
        self.site.stop()

    def _begin(self):
        up.prepare(self.place, time.sleep)
        for name in self.START:
            self.start(name)
        self.make_demo()

    def make_demo(self):
        wanted = {email: (email, scopes) for email, scopes in up.PEOPLE.items()}
        wanted["all"] = ("tests", ALL)
        self.keys = up.make_keys(self.place, wanted, time.sleep)
        people = {email: self.keys[email] for email in up.PEOPLE}
        given = {"password": PASSWORD, "base_url": self.place.api_url, "keys": people}
        up.ask(self.place, "make_demo", given, time.sleep)

    def child(self, name) -> Child:
        return next(child for child in self.site.children if child.spec.name == name)

    def start(self, name):
        """Start it, again if need be, and wait until it answers."""
        known = [child for child in self.site.children if child.spec.name == name]
        child = known[0] if known else self.site.launch(self.START[name](self.place))
        if not child.running:
            child.start()
        up.wait_until_ready(child, time.sleep)
        return child

    def engine(self, name, cpus=2, **more):
        """Start an engine and return its id once the control plane calls it running."""
        self.site.launch(services.engine(self.place, name, cpus, self.keys["all"], **more))
        return wait_for(lambda: self.running_engine(name), 20, f"engine {name} running")

    def running_engine(self, name):
        found = [one for one in self.engines() if one["name"] == name and one["status"] == "running"]
        return found[0]["id"] if found else None

    def in_the_portal(self, uid):
        """Wait until the portal knows the engine as running, with no pause between its readings of the fleet."""
        known = f"SELECT 1 FROM engines_engine WHERE uid = '{uid}' AND status = 'running'"
        due = "UPDATE vault_connection SET refresh_due_at = NULL RETURNING id"
        wait_for(lambda: self.query(due) and self.query(known), 40, f"{uid} running in the portal")

    def engines(self):
        with self.api() as api:
            return api.post("/engines/list", json={"limit": 100}).raise_for_status().json()["items"]

    def kill(self, name):
        self.child(name).kill()

    def ended(self, name):
        """The exit code of a process that ends by itself, waiting for that."""
        wait_for(lambda: not self.child(name).running, 20, f"end of {name}")
        return self.child(name).code

    def api(self, key="all"):
        """A client of the control plane with one of the stack's keys."""
        headers = {"Authorization": f"Bearer {self.keys.get(key, key)}", "X-API-Version": "2"}
        return httpx.Client(base_url=self.place.api_url, headers=headers, timeout=15, trust_env=False)

    def run(self, *, on, **given):
        """Have an engine's first worker sleep for `seconds`; return the task's id once it runs."""
        body = {"app": "sleep", "input": given, "workers": [f"{on}-cpu-0"]}
        with self.api() as api:
            task = api.post("/run", json=body).raise_for_status().json()["id"]
        wait_for(lambda: f"task {task} taken" in self.log(on), 20, f"start of {task} on {on}")
        return task

    def task(self, task_id):
        with self.api() as api:
            return api.get(f"/tasks/{task_id}").raise_for_status().json()

    def sign_in(self, email):
        """A client of the portal, signed in, that follows redirects as a browser does."""
        browser = httpx.Client(base_url=self.place.portal_url, timeout=15, trust_env=False, follow_redirects=True)
        self.browsers.append(browser)
        browser.get("/accounts/login/").raise_for_status()
        answer = browser.post("/accounts/login/", data={"login": email, "password": PASSWORD, **csrf(browser)})
        assert answer.url.path == "/engines/", answer.text
        return browser

    def query(self, sql, variable="DATABASE_URL", file="portal.sqlite3"):
        """The rows of a query to the portal's database, or to the one that is named."""
        url = self.place.environment.get(variable)
        opened = psycopg.connect(url) if url else sqlite3.connect(self.place.data / file, timeout=20)
        with contextlib.closing(opened) as connection, connection:
            return connection.execute(sql).fetchall()

    def log(self, name):
        return self.child(name).log.read_text(errors="replace")


def csrf(browser):
    return {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}


def hidden(html, name):
    """The value of a form's hidden field."""
    return unescape(re.search(rf'name="{name}" value="([^"]*)"', html).group(1))


def drain(browser, uid, reason):
    """Ask for a drain; return the operation's address."""
    return ask(browser, uid, "drain", reason)


def ask(browser, uid, verb, reason, **words):
    """Ask for it as a person does, through the dialog; return the operation's address."""
    address = f"/engines/{uid}/{verb}/"
    ticket = hidden(browser.get(address).raise_for_status().text, "ticket")
    words = {"ticket": ticket, "reason": reason, "deadline": "2", **words}
    answer = browser.post(address, data=words | csrf(browser))
    if answer.status_code == 409 and "Something has changed" in answer.text:  # a task began or ended meanwhile
        answer = browser.post(address, data=words | csrf(browser) | {"ticket": hidden(answer.text, "ticket")})
    assert answer.url.path.startswith("/operations/"), answer.text
    return answer.url.path
