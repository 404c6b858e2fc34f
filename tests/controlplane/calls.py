"""A successful call of every operation in /openapi.json: what an operation needs beyond the common is named here."""

import asyncio
import re
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.test import Client, override_settings
from django.utils.timezone import now

from engines.controlplane import clouds, keys
from engines.controlplane.models import Engine, Instance, Team

VERBS = ("get", "post", "put", "patch", "delete")
TYPE = {
    "id": "local.cpu-small",
    "cloud": "local",
    "region": "here",
    "shade_instance_type": "cpu-small",
    "cloud_instance_type": "cpu-small",
    "deployment_type": "vm",
    "hourly_price": 100,
    "configuration": None,
    "availability": [{"available": True, "region": "here", "rental_type": "on_demand"}],
}


@cache
def described():
    """The OpenAPI document."""
    # Asked while tests are collected, before any fixture is there.
    api = {"ROOT_URLCONF": "engines.controlplane.urls", "MIDDLEWARE": settings.API_MIDDLEWARE}
    with override_settings(**api, ALLOWED_HOSTS=["testserver"]):
        return Client().get("/openapi.json").json()


def operations():
    """Every operation as `POST /engines/{engine_id}/drain`, and its description. A socket is none."""
    paths = described()["paths"].items()
    found = {f"{verb.upper()} {path}": verbs[verb] for path, verbs in paths for verb in VERBS if verb in verbs}
    return {operation: what for operation, what in found.items() if "101" not in what["responses"]}


def parts(answer, until):
    """The parts of a stream up to the one that is waited for."""

    async def read():
        found = []
        async with asyncio.timeout(20):
            async for part in answer.streaming_content:
                found.append(part)
                if part == until:
                    break
        return found

    return asyncio.run(read())


@cache
def codes(operation):
    """The status and code of every refusal that the document gives an example of."""
    answers = operations()[operation]["responses"].items()
    kinds = {status: answer["content"] for status, answer in answers if int(status) >= 400}
    return {(int(status), code) for status, kind in kinds.items() for code in kind["application/json"]["examples"]}


@cache
def _patterns():
    found = [(*one.split(" "), one) for one in operations()]
    # What is written out comes before what stands for anything.
    found.sort(key=lambda each: each[1].count("{"))
    return [(verb, re.compile(re.sub("{.*?}", "[^/]+", path)), one) for verb, path, one in found]


def operation_at(verb, path):
    """The operation behind an address, None if there is none."""
    path = path.removeprefix("/v1")
    return next((one for each, known, one in _patterns() if each == verb and known.fullmatch(path)), None)


def check_documented(verb, path, answer):
    """A refusal is one that the document says this operation has."""
    operation = operation_at(verb, path)
    if operation is None or answer.status_code < 400:
        return
    body = answer.json()
    code = body["error"]["code"] if "error" in body else body["type"].rpartition("/")[2]
    assert (answer.status_code, code) in codes(operation), f"{operation} is not described with {code}"


def needs_key(operation):
    return bool(operations()[operation].get("security"))


def is_stream(operation):
    success = operations()[operation]["responses"].get("200", {})
    return "text/event-stream" in success.get("content", {})


def first(answer):
    """The first part of a stream."""

    async def read():
        return await anext(answer.streaming_content)

    return asyncio.run(read()).decode()


class Cloud:
    """A provider that agrees to everything at once."""

    def __getattr__(self, asked):
        return lambda *told, **more: "machine-1"


class Scene:
    """What the calls are about."""

    def __init__(self, caller, agent, running, monkeypatch):
        self.caller, self.agent, self.running = caller, agent, running
        self.team = running.team
        monkeypatch.setattr(clouds, "provider", lambda cloud: Cloud())
        monkeypatch.setattr(clouds, "types", lambda cloud="": [TYPE])

    def call(self, operation, version="2", known=True):
        """Call it with all it needs for a success; with ids of nothing unless `known`."""
        return self.send(*self.prepared(operation, known=known), version)

    def prepared(self, operation, known=True):
        """The verb, path and body of a call."""
        path = self.path(operation) if known else re.sub("{.*?}", "none", operation.partition(" ")[2])
        return operation.partition(" ")[0].lower(), path, BODIES.get(operation, lambda scene: None)(self)

    def send(self, verb, path, body, version="2", **headers):
        if verb == "get":
            return self.caller.get(path, version)
        return self.caller.send(verb, path, body, version, **headers)

    def path(self, operation):
        """The path with ids that exist."""
        engine = ENGINES.get(operation, lambda scene: scene.agent.id)
        ids = {"engine_id": engine, "task_id": lambda scene: scene.running.pk, "key_id": another_key}
        path = operation.partition(" ")[2]
        return path.format(**{name: ids[name](self) for name in re.findall("{(.*?)}", path)})


def another_key(scene):
    return keys.issue(scene.team, "another")[0].pk


def idle(scene):
    """An engine that never connected."""
    return Engine.objects.create(team=scene.team, name="idle").pk


def rented(scene):
    """A running engine on a machine that is paid for another day."""
    Team.objects.filter(pk=scene.team.pk).update(balance_microcents=10**12)
    engine = Engine.objects.create(team=scene.team, name="rented", state="running")
    Instance.objects.create(
        engine=engine,
        name="rented",
        cloud="local",
        region="here",
        instance_type="cpu-small",
        hourly_price=100,
        status="active",
        machine_id="machine-1",
        delete_at=now() + timedelta(days=1),
    )
    return engine.pk


# Where the connected engine will not do.
ENGINES = {
    "DELETE /engines/{engine_id}": idle,
    "POST /engines/{engine_id}/transfer": idle,
    "POST /engines/{engine_id}/extend": rented,
    "POST /engines/{engine_id}/restart": rented,
}
BODIES = {
    "POST /engines/register": lambda scene: {"local_engine_state": {"name": "new"}},
    "POST /engines": lambda scene: {"name": "new"},
    "POST /engines/{engine_id}": lambda scene: {"name": "renamed"},
    "POST /engines/{engine_id}/extend": lambda scene: {"additional_hours": 1},
    "POST /engines/{engine_id}/visibility": lambda scene: {"visibility": "private"},
    "POST /engines/{engine_id}/transfer": lambda scene: {"team_id": Team.objects.create(slug="others").pk},
    "POST /run": lambda scene: {"app": "sleep"},
    "POST /apps/run": lambda scene: {"app": "sleep"},
    "POST /apikeys": lambda scene: {"name": "new"},
}
