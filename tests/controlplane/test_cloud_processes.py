"""Cloud engines as processes: a machine boots, is extended, restarted, given back, and the API dies on the way."""

import contextlib
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from tests.controlplane.server import ROOT, Server, until
from tests.providers.shadeform_server import KEY, ShadeformStandIn

pytestmark = pytest.mark.processes

SECOND = timedelta(seconds=1)
HOUR = 120_000_000  # microcents of an hour of a cpu-2


@pytest.fixture(scope="module")
def shadeform():
    with ShadeformStandIn().running() as api:
        yield api


@pytest.fixture(scope="module")
def server(tmp_path_factory, shadeform):
    """A server with Shadeform, and a local cloud whose machines boot at once, and 1000 dollars."""
    folder = tmp_path_factory.mktemp("api")
    other = {"SHADEFORM_URL": shadeform.url, "SHADEFORM_API_KEY": KEY}
    server = Server(folder, "cloud-crew", LOCAL_CLOUD_BOOT_SECONDS="0.1", **other)
    server.run_command("set_balance", "--team", "cloud-crew", "--dollars", "1000")
    host = subprocess.Popen(
        [sys.executable, "-m", "engines.controlplane.providers.local_host", str(folder / "cloud"), "--tick", "0.05"],
        cwd=ROOT,
        stdout=server._log,
        stderr=server._log,
    )
    server.start()
    yield server
    host.send_signal(signal.SIGTERM)
    host.wait(15)
    server.close()


@pytest.fixture(scope="module")
def rented(server):
    """The id of a cloud engine that runs."""
    return rent(server)


LOCAL = {"cloud": "local", "region": "here", "shade_instance_type": "cpu-2"}
SHADEFORM = {"cloud": "hyperstack", "region": "canada-2", "shade_instance_type": "A6000"}


def order(server, instance, hours=10):
    until_when = datetime.now().astimezone() + timedelta(hours=hours)
    body = {"name": "rented", "instance": instance, "auto_delete": {"date_threshold": until_when.isoformat()}}
    return server.http.post("/engines", json=body).raise_for_status().json()["id"]


def rent(server):
    engine_id = order(server, LOCAL)
    until(lambda: server.engine(engine_id)["status"] == "running", "the machine's engine")
    until(lambda: server.engine(engine_id)["instance"]["status"] == "active", "the machine")
    return engine_id


def threshold(server, engine_id):
    return datetime.fromisoformat(server.engine(engine_id)["instance"]["auto_delete"]["date_threshold"])


def balance(server):
    return server.http.get("/billing/balance").json()


def extended_by(server, engine_id, before):
    return threshold(server, engine_id) - before


def extend(server, engine_id, hours, **headers):
    return server.http.post(f"/engines/{engine_id}/extend", json={"additional_hours": hours}, headers=headers)


def check_ledger(server):
    """The entries add up to the balance."""
    entries = server.http.post("/billing/transactions/list", json={"limit": 100}).json()["items"]
    assert sum(entry["amount"] for entry in entries) == balance(server)["balance"]
    return entries


def test_a_machine_boots_a_real_engine_that_runs_tasks(server, rented):
    task = server.run(app="checksum", input={"megabytes": 1}, infra="cloud")
    until(lambda: server.task(task)["status"] == 10, "the task")
    assert server.task(task)["engine_id"] == rented


def test_an_extension_moves_the_end_and_is_paid(server, rented):
    before, had = threshold(server, rented), balance(server)["balance"]
    assert extend(server, rented, 1.5).status_code == 200
    assert extended_by(server, rented, before) == timedelta(hours=1.5)
    assert had - balance(server)["balance"] == HOUR * 3 // 2
    check_ledger(server)


@pytest.mark.parametrize("failpoint", ["extend.held", "extend.provider_said_yes", "extend.booked"])
def test_killed_on_the_way_an_extension_is_done_and_paid_once(server, rented, failpoint):
    before, had = threshold(server, rented), balance(server)["balance"]
    server.kill()
    server.start(failpoint)
    with pytest.raises(httpx.TransportError):
        extend(server, rented, 2, **{"Idempotency-Key": failpoint})
    server.wait_dead()
    server.start()
    server.run_command("shell", "-c", DUE)
    until(lambda: extended_by(server, rented, before) == timedelta(hours=2), "the extension")
    assert (had - balance(server)["balance"], balance(server)["held"]) == (2 * HOUR, 0)
    answer = extend(server, rented, 2, **{"Idempotency-Key": failpoint})
    assert (answer.status_code, extended_by(server, rented, before)) == (409, timedelta(hours=2))
    check_ledger(server)


# What a test need not wait for: the lease of who died with an extension in hand.
DUE = """
from engines.controlplane.models import Extension
from django.utils.timezone import now
Extension.objects.filter(state="held").update(next_at=now())
"""


def test_many_extensions_at_once_are_paid_exactly(server, rented):
    from concurrent.futures import ThreadPoolExecutor

    before, had = threshold(server, rented), balance(server)["balance"]
    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(lambda _: extend(server, rented, 0.25).status_code, range(40)))
    assert set(codes) <= {200, 409}
    done = codes.count(200)
    assert extended_by(server, rented, before) == timedelta(hours=0.25) * done
    assert had - balance(server)["balance"] == HOUR // 4 * done
    check_ledger(server)


def test_a_restart_waits_for_what_runs_and_starts_a_new_process(server, rented):
    boot = server.engine(rented)["workers"][0]["status_updated_at"]
    task = server.run(app="sleep", input={"seconds": 1}, infra="cloud")
    until(lambda: server.task(task)["status"] == 7, "the task to run")
    assert server.http.post(f"/engines/{rented}/restart").json()["status"] == "draining"
    until(lambda: server.engine(rented)["status"] == "restarting", "the restart")
    until(lambda: server.engine(rented)["status"] == "running", "the engine to be back")
    assert server.task(task)["status"] == 10
    assert boot


def test_the_end_of_the_paid_time_really_deletes(server, tmp_path):
    engine_id = rent(server)
    machine = server.engine(engine_id)["instance"]["cloud_assigned_id"]
    folder = server._environment["DATA_DIR"] + f"/cloud/machines/{machine}"
    assert os.path.isdir(folder)
    server.run_command("shell", "-c", OVER.format(engine_id))
    until(lambda: server.engine(engine_id)["instance"]["status"] == "deleted", "the deletion")
    assert server.engine(engine_id)["status"] == "stopped"
    assert not os.path.isdir(folder)


OVER = """
from engines.controlplane.models import Instance
from django.utils.timezone import now
Instance.objects.filter(engine="{}").update(delete_at=now(), next_at=now())
"""


def test_a_stopped_engine_gives_its_machine_back_however_often_the_cloud_fails(server, rented):
    folder = server._environment["DATA_DIR"] + "/cloud"
    with open(f"{folder}/faults.json", "w") as faults:
        faults.write('{"delete": {"times": 2, "how": "refuse"}}')
    assert server.http.post(f"/engines/{rented}/stop").json()["status"] == "stopping"
    with contextlib.suppress(AssertionError):
        until(lambda: "refuse" in server.engine(rented)["instance"]["error"], "the refusal")
    assert server.engine(rented)["status"] == "stopping"
    for _ in range(3):
        server.run_command("shell", "-c", SOON)
    until(lambda: server.engine(rented)["status"] == "stopped", "the machine to be taken back")
    until(lambda: server.engine(rented)["instance"]["status"] == "deleted", "the machine's end")
    assert server.http.delete(f"/engines/{rented}").status_code == 204


SOON = """
from engines.controlplane.models import Instance
from django.utils.timezone import now
Instance.objects.update(next_at=now())
"""


def test_costs_are_dollars_as_the_provider_counts(server):
    shown = [engine["instance"] for engine in server.http.get("/engines").json()["items"] if engine["instance"]]
    assert all(Decimal(machine["cost_estimate"]) >= 0 for machine in shown)


def test_a_machine_of_shadeform_from_its_order_to_its_end(server, shadeform):
    had = balance(server)["balance"]
    engine_id = order(server, SHADEFORM, hours=10)
    assert server.engine(engine_id)["status"] == "pending"
    [machine] = shadeform.instances.values()
    machine.update(status="active", ip="203.0.113.5")
    until(lambda: server.engine(engine_id)["instance"]["status"] == "active", "the machine")
    server.register(name="rented", engine_id=engine_id)
    line = server.greet(engine_id)
    assert server.engine(engine_id)["status"] == "running"
    end = threshold(server, engine_id)
    assert extend(server, engine_id, 2).status_code == 200
    assert threshold(server, engine_id) == end + timedelta(hours=2)
    assert datetime.fromisoformat(machine["auto_delete"]["date_threshold"]) - threshold(server, engine_id) < SECOND
    assert abs(had - balance(server)["balance"] - 12 * 210_000_000) < 1_000_000
    assert server.http.post(f"/engines/{engine_id}/stop").json()["status"] == "stopping"
    line.say("drained", epoch=line.wait("drain")["epoch"])
    until(lambda: server.engine(engine_id)["status"] == "stopped", "the stop")
    assert machine["status"] == "deleting"
    machine["status"] = "deleted"
    until(lambda: server.engine(engine_id)["instance"]["status"] == "deleted", "the machine's end")
    check_ledger(server)
    line.hang_up()


def test_a_cloud_that_hangs_holds_up_neither_another_nor_the_end_of_the_process(server, shadeform):
    local = rent(server)
    before = len(shadeform.sent("info"))
    shadeform.fault("info", *["slow_before"] * 100)
    for _ in range(4):
        order(server, SHADEFORM)
    until(lambda: len(shadeform.sent("info")) >= before + 3, "calls that hang, 25 s each")
    assert server.http.post(f"/engines/{local}/stop").json()["status"] == "stopping"
    until(lambda: server.engine(local)["instance"]["status"] == "deleted", "the local machine's end", seconds=18)
    assert server.stop() < 5
    server.start()
