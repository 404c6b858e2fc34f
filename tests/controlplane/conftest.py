"""The cast: a team with a key that may do everything, an outsider's team, and an engine played by the test."""

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.test import Client
from django.utils.timezone import now

from engines.controlplane import cloud as machines
from engines.controlplane import clouds, dispatch, frames, hearing, keys, money, reconcile, sending, sessions
from engines.controlplane.enums import EntryKind
from engines.controlplane.models import Engine, Instance, LedgerEntry, Task, Team, atomic
from tests.controlplane import calls
from tests.controlplane.cloud import Cloud


class Caller:
    """Somebody with a key, who speaks the bare format unless told otherwise."""

    def __init__(self, key):
        self.key = key
        self._client = Client(raise_request_exception=False)

    def get(self, path, version="2", accept="", **query):
        headers = self._headers(version) | ({"Accept": accept} if accept else {})
        answer = self._client.get(path, query, headers=headers)
        calls.check_documented("GET", path, answer)
        return answer

    def post(self, path, body=None, version="2", **headers):
        return self.send("post", path, body, version, **headers)

    def send(self, verb, path, body=None, version="2", **headers):
        sent = {} if body is None else {"data": body}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        send = getattr(self._client, verb)
        answer = send(path, content_type="application/json", headers=self._headers(version) | headers, **sent)
        calls.check_documented(verb.upper(), path, answer)
        return answer

    def delete(self, path, version="2"):
        return self.send("delete", path, None, version)

    def _headers(self, version):
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return key | ({"X-API-Version": version} if version else {})


class Agent:
    """An engine: its rows, and its end of a socket."""

    def __init__(self, team, name="gpu-1", cpus=2, boot="boot-1"):
        self.team, self.name, self.cpus, self.boot = team, name, cpus, boot
        self.id = ""

    def register(self, caller, **state):
        known = {"id": self.id, "name": self.name, "boot_id": self.boot} | state
        config = {"cpu": {"count": self.cpus}}
        answer = caller.post("/engines/register", {"local_engine_state": known, "worker_config": config})
        self.id = answer.json().get("engine_id", self.id)
        return answer

    def connect(self, running=(), results=(), **hello):
        """Say hello on a new connection and return what the control plane answers."""
        self.session = sessions.Session(engine_id=self.id, key_id=keys.issue(self.team, "socket")[0].pk)
        told = {"boot_id": self.boot, "running": [{"task_id": task.pk} for task in running], "results": list(results)}
        return reconcile.greet(self.session, frames.Hello(**told | hello))

    def hang_up(self):
        sessions.end(self.session)

    def say(self, said):
        return hearing.hear(self.session, said)

    def accept(self, task):
        return self.say(frames.TaskAccepted(task_id=task.pk))

    def reject(self, task, reason="engine_draining"):
        return self.say(frames.TaskRejected(task_id=task.pk, reason=reason))

    def finish(self, task, status="completed", **more):
        return self.say(frames.Result(task_id=task.pk, status=status, **more))

    def report_update(self, phase, version="v2.0.0", error="", epoch=1):
        return self.say(frames.UpdateStatus(epoch=epoch, phase=phase, version=version, error=error))

    def come_back(self, caller, boot="boot-2", version="v2.0.0"):
        """A new process of the engine registers and says hello."""
        self.boot = boot
        info = {"engine_version": version}
        known = {"id": self.id, "name": self.name, "boot_id": boot}
        caller.post("/engines/register", {"local_engine_state": known, "system_info": info})
        return self.connect(version=version)

    def report_drained(self, epoch=1):
        return self.say(frames.Drained(epoch=epoch))

    def due(self):
        return sending.due(self.session)

    @property
    def row(self):
        return Engine.objects.get(pk=self.id)


def result(task, status="completed", **more):
    return {"task_id": task.pk, "status": status, **more}


def kinds(sent):
    return [frame["type"] for frame in sent]


def events(task):
    return [(event.kind, event.text) for event in task.events.all()]


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.django_db(databases=["default", "controlplane"]))


@pytest.fixture(autouse=True)
def as_the_api(settings):
    settings.ROOT_URLCONF = "engines.controlplane.urls"
    settings.MIDDLEWARE = settings.API_MIDDLEWARE


@pytest.fixture
def later():
    """Move the clock on by so many seconds, until the test ends."""
    with contextlib.ExitStack() as travels:
        began = now()
        yield lambda seconds: travels.enter_context(time_machine.travel(began + timedelta(seconds=seconds), tick=False))


@pytest.fixture
def team():
    return Team.objects.create(slug="acme", name="Acme")


@pytest.fixture
def caller(team):
    return Caller(keys.issue(team, "everything")[1])


@pytest.fixture
def outsider():
    return Caller(keys.issue(Team.objects.create(slug="mallory-inc", name="Mallory Inc"), "theirs")[1])


@pytest.fixture
def agent(team, caller):
    """A registered, connected, idle engine with two CPU workers."""
    agent = Agent(team)
    agent.register(caller)
    agent.connect()
    return agent


@pytest.fixture
def queue(team):
    """Queue a task and return its row."""
    return lambda **facts: Task.objects.create(**{"team": team, "app": "sleep"} | facts)


@pytest.fixture
def give(agent, queue):
    """Have a task dispatched to the agent's engine, sent to it, and return its row."""

    def _give(**facts):
        task = queue(**facts)
        dispatch.run()
        agent.due()
        task.refresh_from_db()
        return task

    return _give


@pytest.fixture
def running(agent, give):
    """A task that runs on the agent's engine."""
    task = give()
    agent.accept(task)
    task.refresh_from_db()
    return task


@pytest.fixture
def scene(caller, agent, running, monkeypatch):
    """What a call of any operation needs."""
    return calls.Scene(caller, agent, running, monkeypatch)


@pytest.fixture
def cloud(monkeypatch):
    """A cloud that does what the test tells it."""
    cloud = Cloud()
    monkeypatch.setattr(clouds, "provider", lambda name: cloud)
    monkeypatch.setattr(clouds, "types", cloud.types)
    return cloud


@pytest.fixture
def funds(team):
    """Give the team so many dollars."""

    def _funds(dollars):
        with atomic():
            money.book(money.locked(team.pk), EntryKind.DEPOSIT, dollars * money.MICROCENTS_PER_DOLLAR, "for tests")

    return _funds


@pytest.fixture
def rented(cloud, caller, team, funds):
    """A cloud engine whose machine is active and whose engine is connected: $1.20 an hour, ten hours paid."""
    funds(100)
    body = {
        "name": "rented",
        "instance": {"cloud": "local", "region": "here", "shade_instance_type": "cpu-2"},
        "auto_delete": {"date_threshold": (now() + timedelta(hours=10)).isoformat()},
    }
    created = caller.post("/engines", body).json()
    machines.look_around()
    agent = Agent(team, name="rented")
    agent.id = created["id"]
    agent.register(caller)
    agent.connect()
    return agent


def look_again():
    """Look after the machines as if it were time to."""
    Instance.objects.update(next_at=now() - timedelta(seconds=1))
    machines.look_around()


def check_books(team):
    """The balance is the sum of its entries, in order, and nothing is held that should not be."""
    row = Team.objects.get(pk=team.pk)
    entries = list(LedgerEntry.objects.filter(team=team).order_by("number"))
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    running = 0
    for entry in entries:
        running += entry.amount_microcents
        assert entry.balance_microcents == running
    assert row.balance_microcents == running
    return row
