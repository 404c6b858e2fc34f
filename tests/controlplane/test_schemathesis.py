"""Requests made up from /openapi.json: nothing crashes, and every answer is as the document says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.controlplane.server import ROOT, Server

pytestmark = pytest.mark.processes

SEED = "20261123"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"
# Where nearly all is refused at the door, little is tried.
ALL = ("--phases", "examples,coverage,fuzzing", "--max-time", "30")
SOME = ("--phases", "fuzzing", "--max-examples", "3")
CALLERS = {"everything": (["*"], ALL), "next to nothing": (["billing:read"], SOME), "nobody": (None, SOME)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    rates = {f"API_RATE_{kind}": "1000000/minute" for kind in ("READ", "WRITE", "RUN")}
    server = Server(tmp_path_factory.mktemp("api"), **rates)
    try:
        server.start()
        server.greet(server.register())
        server.known = {
            "engine_id": [server.register(f"gpu-{number}") for number in range(20)]
            + server.run_command("shell", "--no-imports", "-c", RENTED).split(),
            "task_id": [server.run(workers=["nobody"]) for _ in range(8)],
            "key_id": [server.http.post("/apikeys", json={"name": "x"}).json()["id"] for _ in range(8)],
        }
        yield server
    finally:
        server.close()


# Engines on machines that are paid for. Their cloud, which nobody runs here, will not know them.
RENTED = """
from datetime import timedelta
from django.utils.timezone import now
from engines.controlplane.models import Engine, Instance, Team
team = Team.objects.get(slug="acme")
Team.objects.update(balance_microcents=10**15)
for number in range(10):
    engine = Engine.objects.create(team=team, name="rented", state="running")
    Instance.objects.create(
        engine=engine, name=engine.pk, cloud="local", region="here", instance_type="cpu-2", hourly_price=100,
        status="active", machine_id=engine.pk, delete_at=now() + timedelta(days=1), next_at=now() + timedelta(days=1),
    )
    print(engine.pk)
"""


def left_out(server):
    """Streams, whose answers never end, and the socket."""
    paths = server.http.get("/openapi.json").json()["paths"]
    endless = [path for path, verbs in paths.items() if "text/event-stream" in json.dumps(verbs)]
    return [*endless, "/engines/{engine_id}/ws"]


@pytest.mark.parametrize(("scopes", "effort"), CALLERS.values(), ids=CALLERS)
def test_every_answer_is_as_described(server, tmp_path, scopes, effort):
    headers = []
    if scopes:
        headers += ["-H", f"Authorization: Bearer {server.make_key('acme', *scopes)}"]
    skipped = left_out(server) if scopes == ["*"] else []
    words = [word for path in skipped for word in ("--exclude-path", path)]
    report = run(tmp_path, server, effort, *headers, *words)
    print(report.stdout)
    assert report.returncode == 0, f"seed {SEED}: the report is above"
    if scopes == ["*"]:
        answers = {tuple(line.rsplit(" ", 1)) for line in (tmp_path / "answers").read_text().splitlines()}
        unknown = {one for one, status in answers if "{" in one} - {one for one, status in answers if status != "404"}
        assert unknown == set(), "nothing was ever found"


def run(folder, server, effort, *words):
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json", *words]
    what = ["--checks", CHECKS, "--seed", SEED, *effort]
    how = ["--no-color", "--no-shrink", "--generation-database", "none", "--continue-on-failure"]
    return subprocess.run(
        [*command, *what, *how, "--request-timeout", "10"],
        cwd=folder,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.controlplane.schemathesis_hooks",
            "KNOWN_IDS": json.dumps(server.known),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
