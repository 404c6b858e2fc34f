"""The cast: a team with a key that may do everything, an outsider's team, and an engine played by the test."""

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.test import Client
from django.utils.timezone import now

from engines.controlplane import dispatch, frames, hearing, keys, reconcile, sending, sessions
from engines.controlplane.models import Engine, Task, Team


class Caller:
    """Somebody with a key, who speaks the bare format unless told otherwise."""

    def __init__(self, key):
        self.key = key
        self._client = Client(raise_request_exception=False)

    def get(self, path, version="2", **query):
        return self._client.get(path, query, headers=self._headers(version))

    def post(self, path, body=None, version="2"):
        return self.send("post", path, body, version)

    def send(self, verb, path, body=None, version="2"):
        sent = {} if body is None else {"data": body}
        send = getattr(self._client, verb)
        return send(path, content_type="application/json", headers=self._headers(version), **sent)

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
