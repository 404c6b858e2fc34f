"""A server and a real engine, both processes, and what the official SDK's driver saw of them."""

import json
import os
import secrets
import shutil
import subprocess
import sys

import httpx
import pytest

from engines.agent import package
from tests.agent.process import AgentProcess
from tests.controlplane.server import ROOT, Server, until
from tests.sdk import node

HOST = "engines.controlplane.providers.local_host"  # boots the machines of the local cloud
LONGEST = 110  # seconds for the whole drive


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The driver and the SDK as one file: the SDK's modules import each other in a way that node alone refuses."""
    if reason := node.missing() or ("" if node.MODULES.is_dir() else "`make test` has not installed it"):
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(f"the official SDK: {reason}")
    bundled = tmp_path_factory.mktemp("sdk") / "driver.mjs"
    esbuild = node.MODULES / ".bin" / "esbuild"
    flags = ("--bundle", "--platform=node", "--format=esm", "--log-level=warning", f"--outfile={bundled}")
    subprocess.run([esbuild, node.HERE / "driver.mjs", *flags], check=True)
    return bundled


@pytest.fixture(scope="session")
def releases(tmp_path_factory):
    """A release tree of the engine: v1.3.0 is stable, v1.2.3 is older."""
    tree = tmp_path_factory.mktemp("releases")
    for version in ("v1.2.3", "v1.3.0"):
        package.build(version, tree)
    return tree


@pytest.fixture(scope="module")
def server(tmp_path_factory, releases):
    folder = tmp_path_factory.mktemp("api")
    machines = {"LOCAL_CLOUD_DIR": str(folder / "cloud"), "LOCAL_CLOUD_BOOT_SECONDS": "0.2"}
    team = f"team-{secrets.token_hex(4)}"  # on PostgreSQL all servers of a run share a database
    server = Server(folder, team, ENGINE_DIST_DIR=str(releases), **machines)
    host = subprocess.Popen([sys.executable, "-m", HOST, folder / "cloud"], cwd=ROOT)
    try:
        server.run_command("set_balance", "--team", team, "--dollars", "250.00")
        server.start()
        yield server
    finally:
        host.terminate()
        host.wait()
        server.close()


@pytest.fixture(scope="module")
def engine(server, releases, tmp_path_factory):
    """A running engine, v1.2.3, with two CPU workers, as the API shows it."""
    folder = tmp_path_factory.mktemp("engine")
    program = shutil.copy2(releases / "v1.2.3" / package.NAME, folder / "engine")
    agent = AgentProcess(server.url, folder / "state", key=server.key, program=[sys.executable, str(program)])
    try:
        yield until(lambda: running(server), "a running engine")
    finally:
        agent.end()


def running(server):
    found = server.http.post("/engines/list").raise_for_status().json()["items"]
    return next((one for one in found if one["status"] == "running"), None)


@pytest.fixture(scope="module")
def other_team(server):
    """The id of a team that the key is not of."""
    key = server.make_key(f"{server.team}-others")
    return httpx.get(f"{server.url}/me", headers={"Authorization": f"Bearer {key}"}, trust_env=False).json()["data"][
        "team_id"
    ]


@pytest.fixture(scope="module")
def steps(bundle, server, engine, other_team):
    """What each step of the driver came to, by its name."""
    worker = engine["workers"][0]["id"]
    plan = {"engine": engine["id"], "worker": worker, "team": other_team}
    given = {"API_URL": server.url, "API_KEY": server.key, "PLAN": json.dumps(plan)}
    run = subprocess.run(
        ["node", bundle], env={**os.environ, **given}, stdout=subprocess.PIPE, text=True, timeout=LONGEST, check=True
    )
    return {line["method"]: line for line in map(json.loads, run.stdout.splitlines())}
