"""A successful call of every operation in /openapi.json: what an operation needs beyond the common is named here."""

from functools import cache

from django.conf import settings
from django.test import Client, override_settings

VERBS = ("get", "post", "put", "patch", "delete")


@cache
def described():
    """The OpenAPI document."""
    # Asked while tests are collected, before any fixture is there.
    api = {"ROOT_URLCONF": "engines.controlplane.urls", "MIDDLEWARE": settings.API_MIDDLEWARE}
    with override_settings(**api, ALLOWED_HOSTS=["testserver"]):
        return Client().get("/openapi.json").json()


def operations():
    """Every operation as `POST /engines/{engine_id}/drain`, and its description."""
    paths = described()["paths"].items()
    return {f"{verb.upper()} {path}": verbs[verb] for path, verbs in paths for verb in VERBS if verb in verbs}


def needs_key(operation):
    return bool(operations()[operation].get("security"))


class Scene:
    """What the calls are about. Rows are made when a call asks for them."""

    def __init__(self, caller, agent, running):
        self.caller, self.agent, self.running = caller, agent, running

    def path(self, operation):
        """The operation's path with ids that exist."""
        ids = {"engine_id": self.agent.id, "task_id": self.running.pk}
        return operation.partition(" ")[2].format(**ids)

    def call(self, operation, version="2"):
        verb = operation.partition(" ")[0].lower()
        body = BODIES.get(operation, lambda scene: {})(self)
        path = self.path(operation)
        return self.caller.get(path, version) if verb == "get" else self.caller.send(verb, path, body, version)


BODIES = {
    "POST /engines/register": lambda scene: {"local_engine_state": {"name": "new"}},
    "POST /run": lambda scene: {"app": "sleep"},
    "POST /apps/run": lambda scene: {"app": "sleep"},
}
