"""The local cloud: what is ordered, what becomes of it, what it costs."""

import json
import os
import shutil
import signal
import stat
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from engines.agent import config
from engines.controlplane.providers import local
from engines.controlplane.providers.base import Refused, Unclear
from engines.controlplane.providers.local import LocalCloud
from engines.controlplane.providers.local_folder import Folder, Place, now
from engines.controlplane.providers.local_host import Host
from tests.agent.process import alive
from tests.providers.local_world import KEY

# What is offered


def test_the_types_say_that_it_is_this_machine(world):
    offers = {kind["shade_instance_type"]: kind for kind in world.cloud.types()}
    assert {name: kind["hourly_price"] for name, kind in offers.items() if "cpu" in name} == {
        "cpu-1": 60,
        "cpu-2": 120,
        "cpu-4": 250,
    }
    one = offers["cpu-1"]
    assert (one["cloud"], one["region"], one["cloud_instance_type"]) == ("local", "here", "this machine")
    assert one["configuration"]["vcpus"] == os.cpu_count()
    assert one["configuration"]["num_gpus"] == 0
    assert one["boot_time"]["average_seconds"] == 30


def test_gpus_are_offered_where_there_are_some(world, tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034'\necho 'NVIDIA L4, 23034'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    local._gpus.cache_clear()
    try:
        offer = world.cloud.types()[-1]
        assert offer["shade_instance_type"] == "gpu-2"
        has = {"gpu_type": "NVIDIA L4", "num_gpus": 2, "vram_per_gpu_in_gb": 22}
        assert has.items() <= offer["configuration"].items()
        made = world.cloud.create(world.order(kind="gpu-2"))
        workers = json.loads((world.path(made) / "config.json").read_text())["workers"]
        assert workers["gpu"] == [{"gpus": [0]}, {"gpus": [1]}]
    finally:
        local._gpus.cache_clear()


def test_the_boot_time_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_CLOUD_BOOT_SECONDS", "7")
    assert LocalCloud(tmp_path).types()[0]["boot_time"]["average_seconds"] == 7


@pytest.mark.parametrize(
    "change",
    [{"instance_type": "A6000"}, {"region": "there"}, {"cloud": "hyperstack"}, {"rental_type": "spot"}],
)
def test_what_is_not_offered_is_refused(world, change):
    with pytest.raises(Refused, match="does not offer that"):
        world.cloud.create(replace(world.order(), **change))
    assert list((world.folder / "machines").iterdir()) == []


# From order to engine


def test_a_machine_boots_before_its_engine_starts(world):
    made = world.cloud.create(world.order())
    seen = []
    for _ in range(4):
        world.steps(2)
        seen.append((world.machine(made).status, world.machine(made).ip, (world.path(made) / "engine.log").exists()))
        world.later += 10.5
    assert seen == [
        ("creating", "", False),
        ("pending", "", False),
        ("pending", "", False),
        ("active", "127.0.0.1", True),
    ]


def test_without_a_host_it_waits(world):
    made = world.cloud.create(world.order())
    assert world.machine(made).status == "creating"


def test_another_cloud_object_sees_the_same_machines(world):
    made = world.active()
    other = LocalCloud(world.folder)
    assert other.info(made).status == "active"
    assert other.find("engine-eng_1").id == made


def test_the_engine_is_told_who_it_is(world):
    made = world.active("--my box")
    arguments = world.notes(made, "ready")[0]["arguments"]
    assert arguments[1] == "serve"
    assert {"--api-url=http://127.0.0.1:1", "--name=--my box", "--engine-id=eng_1"} < set(arguments)


def test_the_engine_gets_the_key_and_little_else(world, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "the portal's own")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    environment = world.notes(world.active(), "ready")[0]["environment"]
    environment.pop("LC_CTYPE", None)  # made by Python itself
    assert set(environment) - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "HOME", "LANG", "INFERENCE_API_KEY"}
    assert environment["INFERENCE_API_KEY"] == KEY


def test_the_key_is_in_one_file_for_its_owner_alone(world):
    made = world.active()
    held = {path for path in world.folder.rglob("*") if path.is_file() and KEY in path.read_text()}
    notes = world.path(made) / "state" / "notes"  # where our engine tells all that it was given
    assert held - {notes} == {world.path(made) / "key"}
    assert stat.S_IMODE((world.path(made) / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(world.path(made).stat().st_mode) == 0o700
    assert KEY not in repr((world.cloud, world.machine(made), world.order()))


@pytest.mark.parametrize(("kind", "count"), [("cpu-1", 1), ("cpu-2", 2), ("cpu-4", 4)])
def test_the_type_decides_about_the_workers(world, kind, count):
    made = world.cloud.create(world.order(kind=kind))
    flags = {"config": str(world.path(made) / "config.json"), "name": "box", "api_url": world.url}
    assert config.load(flags, {"INFERENCE_API_KEY": KEY}).workers == config.Workers(count)


# While it runs


def test_a_crashed_engine_is_started_again(world):
    made = world.active()
    os.kill(world.pids(made)[0], signal.SIGKILL)
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")
    assert world.machine(made).status == "active"


def test_an_engine_that_goes_on_crashing_gets_pauses(world):
    made = world.active("crashing box")
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")
    world.until(lambda: world.seen(made)["exit"] == 3, "its exit code")
    world.steps(50)
    assert len(world.pids(made)) == 2


def test_an_engine_that_ended_by_itself_stays_ended(world):
    made = world.active("drained box")
    world.until(lambda: world.seen(made)["exit"] == 0, "its exit code")
    world.host = world.new_host()
    world.steps()
    assert len(world.pids(made)) == 1
    assert world.machine(made).status == "active"


def test_a_restart_starts_an_ended_engine_too(world):
    made = world.active("drained box")
    world.until(lambda: world.seen(made)["exit"] == 0, "its exit code")
    world.cloud.restart(made)
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")


def test_each_restart_cuts_once(world):
    made = world.active()
    world.cloud.restart(made)
    assert world.machine(made).status == "active"
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")
    world.steps()
    assert len(world.pids(made)) == 2
    assert len(world.notes(made, "stopped")) == 1
    assert world.seen(made)["restarts"] == 1


def test_two_restarts_cut_twice(world, capsys):
    made = world.active()
    world.cloud.restart(made)
    world.cloud.restart(made)
    world.until(lambda: world.seen(made)["restarts"] == 2 and world.seen(made)["engine"], "the second restart")
    world.steps()
    assert capsys.readouterr().out.count("is started, process") == 3


def test_an_engine_that_will_not_stop_is_killed(world):
    made = world.active("stubborn box")
    pid = world.pids(made)[0]
    world.cloud.restart(made)
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")
    assert len(world.notes(made, "heard")) == 1
    assert not alive(pid)
    world.cloud.delete(made)
    world.gone(made)


def test_a_restart_asked_for_without_a_host_is_done_once_by_the_next(world):
    made = world.active()
    world.cloud.restart(made)
    world.host = world.new_host()
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")
    world.host = world.new_host()
    world.steps()
    assert len(world.pids(made)) == 2


def test_a_machine_that_is_not_active_is_not_restarted(world):
    made = world.cloud.create(world.order())
    with pytest.raises(Refused, match="not active"):
        world.cloud.restart(made)


def test_a_log_does_not_grow_for_ever(world):
    made = world.active()
    log = world.path(made) / "engine.log"
    log.write_bytes(b"x" * 2 * 1024 * 1024)
    world.cloud.restart(made)
    world.until(lambda: len(world.pids(made)) == 2, "a second engine")
    assert log.stat().st_size < 1000


# Its end, and its price


def test_deleting_ends_the_engine_and_leaves_a_line(world):
    made = world.active()
    pid = world.pids(made)[0]
    world.cloud.delete(made)
    assert world.machine(made).status == "deleting"
    assert world.cloud.find("engine-eng_1").status == "deleting"
    world.gone(made)
    assert not alive(pid)
    assert not world.path(made).exists()
    assert world.cloud.find("engine-eng_1") is None
    assert {"name": "engine-eng_1", "why": "asked for"}.items() <= world.tombstone(made).items()
    world.cloud.delete(made)


def test_nothing_of_the_key_outlives_the_machine(world):
    made = world.active()
    world.cloud.delete(made)
    world.gone(made)
    assert [path for path in world.folder.rglob("*") if path.is_file() and KEY in path.read_text()] == []


def test_a_machine_can_be_deleted_before_it_is_active(world):
    made = world.cloud.create(world.order())
    world.cloud.delete(made)
    world.gone(made)


def test_what_was_half_removed_is_removed_by_the_next_host(world):
    made = world.cloud.create(world.order())
    gone = {"id": made, "name": "engine-eng_1"}
    (world.folder / "gone" / f"{made}.json").write_text(json.dumps(gone))
    assert world.cloud.info(made) is None
    world.steps(1)
    assert not world.path(made).exists()
    assert world.tombstone(made) == gone


def test_its_time_being_over_it_goes(world):
    made = world.active(delete_at=now() + timedelta(hours=1))
    world.steps()
    assert world.machine(made).status == "active"
    world.later += 3601
    world.gone(made)
    assert world.tombstone(made)["why"] == "its time was over"


def test_an_extension_keeps_it(world):
    end = now() + timedelta(hours=1)
    made = world.active(delete_at=end)
    world.cloud.set_auto_delete(made, end + timedelta(hours=2), None)
    world.later += 3601
    world.steps()
    machine = world.machine(made)
    assert machine.status == "active"
    assert datetime.fromisoformat(machine.facts["auto_delete"]["date_threshold"]) == end + timedelta(hours=2)


def test_an_extension_counts_that_came_while_the_host_looked(world):
    end = now() + timedelta(hours=1)
    made = world.active(delete_at=end)
    asked = []

    def looked_at():
        if not asked:
            asked.append(world.cloud.set_auto_delete(made, end + timedelta(hours=2), None))
        return end + timedelta(seconds=1)

    world.host = Host(world.folder, clock=looked_at)
    world.steps()
    assert asked
    assert world.machine(made).status == "active"


def test_it_costs_its_price_from_when_it_is_active(world, monkeypatch):
    made = world.active(kind="cpu-4")
    monkeypatch.setattr(local, "now", lambda: datetime.fromisoformat(world.seen(made)["active_at"]) + DAY)
    assert world.machine(made).cost == Decimal("60.0000")


DAY = timedelta(hours=24)


def test_what_is_not_active_yet_costs_nothing(world):
    made = world.cloud.create(world.order())
    assert world.machine(made).cost == 0


def test_it_goes_once_it_has_cost_enough(world):
    made = world.active(spend_limit=Decimal("1.20"))
    world.later += 2 * 3600 - 30
    world.steps()
    assert world.machine(made).status == "active"
    world.later += 60
    world.gone(made)
    assert world.tombstone(made)["why"] == "its spend limit was reached"
    assert Decimal("1.2") <= Decimal(world.tombstone(made)["cost"]) < Decimal("1.3")


def test_a_machine_on_its_way_out_takes_no_change(world):
    made = world.active()
    world.cloud.delete(made)
    for change in (lambda: world.cloud.restart(made), lambda: world.cloud.set_auto_delete(made, None, None)):
        with pytest.raises(Refused, match="being deleted"):
            change()
    world.gone(made)
    with pytest.raises(Refused, match="no such machine"):
        world.cloud.restart(made)


def test_a_machine_that_goes_while_it_is_read_is_gone(world, monkeypatch):
    made = world.active()
    os.kill(world.pids(made)[0], signal.SIGKILL)
    seen = Place.seen

    def too_late(place):
        Folder(world.folder).bury(place, "", Decimal(0), now())
        return seen(place)

    monkeypatch.setattr(Place, "seen", too_late)
    assert world.cloud.info(made) is None


@pytest.mark.parametrize("machine_id", ["", "..", "../elsewhere", "unknown"])
def test_an_unknown_id_is_no_machine(world, machine_id):
    shutil.copytree(world.path(world.cloud.create(world.order())), world.folder / "elsewhere")
    assert world.cloud.info(machine_id) is None
    world.cloud.delete(machine_id)
    with pytest.raises(Refused):
        world.cloud.set_auto_delete(machine_id, None, None)


def test_a_new_machine_under_the_name_is_the_one_that_is_found(world):
    first = world.cloud.create(world.order())
    world.cloud.delete(first)
    second = world.cloud.create(world.order())
    assert world.cloud.find("engine-eng_1").id == second


def test_a_broken_file_stops_no_other_machine_and_costs_none_its_life(world, capsys):
    broken = world.cloud.create(world.order("broken"))
    (world.path(broken) / "machine.json").write_text("{")
    made = world.active()
    assert world.path(broken).exists()
    assert world.machine(made).status == "active"
    assert capsys.readouterr().out.count(f"machine {broken}: ValueError") == 1


# Failures on demand


@pytest.mark.parametrize(
    ("how", "error", "there"), [("refuse", Refused, 0), ("unclear", Unclear, 0), ("unclear_done", Unclear, 1)]
)
def test_an_order_fails_as_told(world, how, error, there):
    world.fault(create=how)
    with pytest.raises(error, match=r"faults\.json"):
        world.cloud.create(world.order())
    assert len(list((world.folder / "machines").iterdir())) == there
    assert (world.cloud.find("engine-eng_1") is not None) == bool(there)


@pytest.mark.parametrize("operation", ["set_auto_delete", "delete", "restart"])
def test_a_change_fails_as_told_or_is_done_unheard(world, operation):
    made = world.active()
    call = {
        "set_auto_delete": lambda: world.cloud.set_auto_delete(made, now() + DAY, None),
        "delete": lambda: world.cloud.delete(made),
        "restart": lambda: world.cloud.restart(made),
    }[operation]
    before = (world.path(made) / "machine.json").read_text()
    world.fault(**{operation: "refuse"})
    with pytest.raises(Refused):
        call()
    world.fault(**{operation: "unclear"})
    with pytest.raises(Unclear):
        call()
    assert (world.path(made) / "machine.json").read_text() == before
    world.fault(**{operation: "unclear_done"})
    with pytest.raises(Unclear):
        call()
    assert (world.path(made) / "machine.json").read_text() != before


def test_a_fault_may_be_counted(world):
    made = world.cloud.create(world.order())
    world.fault(delete={"times": 2, "how": "refuse"})
    for _ in range(2):
        with pytest.raises(Refused):
            world.cloud.delete(made)
    world.cloud.delete(made)
    assert world.machine(made).status == "deleting"


def test_a_boot_fails_as_told(world):
    world.fault(boot="error")
    made = world.cloud.create(world.order())
    world.later += 31
    world.steps()
    machine = world.machine(made)
    assert (machine.status, machine.cost) == ("error", 0)
    assert "fail to boot" in machine.error
    assert not (world.path(made) / "engine.log").exists()
    world.cloud.delete(made)
    world.gone(made)
