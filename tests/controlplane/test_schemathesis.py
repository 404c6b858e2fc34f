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
        server.run()
        yield server
    finally:
        server.close()


def left_out(server):
    """Streams, whose answers never end, the socket, and what would delete the caller's own key."""
    paths = server.http.get("/openapi.json").json()["paths"]
    endless = [path for path, verbs in paths.items() if "text/event-stream" in json.dumps(verbs)]
    return [*endless, "/engines/{engine_id}/ws", "/apikeys/{key_id}"]


@pytest.mark.parametrize(("scopes", "effort"), CALLERS.values(), ids=CALLERS)
def test_every_answer_is_as_described(server, tmp_path, scopes, effort):
    headers = ["-H", "X-API-Version: 2"]
    if scopes:
        headers += ["-H", f"Authorization: Bearer {server.make_key('acme', *scopes)}"]
    skipped = left_out(server) if scopes == ["*"] else []
    report = run(
        tmp_path, server.url, effort, *headers, *(word for path in skipped for word in ("--exclude-path", path))
    )
    print(report.stdout)
    assert report.returncode == 0, f"seed {SEED}: the report is above"


def run(folder, url, effort, *words):
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", *words]
    what = ["--checks", CHECKS, "--seed", SEED, *effort]
    how = ["--no-color", "--no-shrink", "--generation-database", "none", "--continue-on-failure"]
    return subprocess.run(
        [*command, *what, *how, "--request-timeout", "10"],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.controlplane.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
