"""What the Shadeform provider sends, what it reads, and how sure it is of either."""

import base64
import json
import socket
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from engines.controlplane.providers.base import Refused, Unclear
from engines.controlplane.providers.shadeform import Shadeform
from tests.providers.conftest import ENGINE_KEY
from tests.providers.shadeform_server import INSTANCE_TYPE, KEY

WRITES = {
    "create": lambda cloud, order, machine_id: cloud.create(order),
    "update": lambda cloud, order, machine_id: cloud.set_auto_delete(machine_id, None, None),
    "delete": lambda cloud, order, machine_id: cloud.delete(machine_id),
    "restart": lambda cloud, order, machine_id: cloud.restart(machine_id),
}
READS = {
    "instances_list": lambda cloud, machine_id: cloud.find("engine-eng_1"),
    "info": lambda cloud, machine_id: cloud.info(machine_id),
    "types": lambda cloud, machine_id: cloud.types(),
}


@pytest.fixture
def machine_id(shadeform, server, order):
    """A machine that is active."""
    made = shadeform.create(order)
    server.instances[made]["status"] = "active"
    server.requests.clear()
    return made


# What is sent


def test_an_order_names_what_to_rent(shadeform, server, order):
    shadeform.create(order)
    body = server.sent("create")[0]
    wanted = {"cloud": "hyperstack", "region": "canada-1", "shade_instance_type": "A6000", "shade_cloud": True}
    assert wanted.items() <= body.items()
    assert body["name"] == "engine-eng_1"
    assert "auto_delete" not in body


def test_an_order_carries_its_limits(shadeform, server, order):
    end = datetime(2030, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    shadeform.create(replace(order, delete_at=end, spend_limit=Decimal("3.10")))
    limits = {"date_threshold": "2030-05-06T07:08:09+02:00", "spend_threshold": "3.10"}
    assert server.sent("create")[0]["auto_delete"] == limits


def test_a_part_of_a_second_is_rounded_up_for_it_was_paid(shadeform, server, order):
    shadeform.create(replace(order, delete_at=datetime(2030, 1, 1, 23, 59, 59, 1, tzinfo=UTC)))
    assert server.sent("create")[0]["auto_delete"]["date_threshold"] == "2030-01-02T00:00:00+00:00"


def test_a_time_without_zone_is_never_sent(shadeform, server, order):
    with pytest.raises(ValueError, match="zone"):
        shadeform.create(replace(order, delete_at=datetime(2030, 1, 1)))
    assert server.requests == []


def test_spot_is_refused_before_anything_is_sent(shadeform, server, order):
    with pytest.raises(Refused, match="on demand only, not spot; nothing was ordered"):
        shadeform.create(replace(order, rental_type="spot"))
    assert server.requests == []


def test_the_key_is_sent_in_its_header_alone(shadeform, server, order):
    shadeform.create(order)
    method, path, headers, body = server.requests[0]
    assert headers["X-API-KEY"] == KEY
    assert KEY not in repr((method, path, body))


def test_a_limit_that_is_none_is_removed_and_not_kept(shadeform, server, order):
    made = shadeform.create(replace(order, delete_at=datetime(2030, 1, 1, tzinfo=UTC), spend_limit=Decimal(9)))
    shadeform.set_auto_delete(made, datetime(2031, 1, 1, tzinfo=UTC), None)
    assert server.instances[made]["auto_delete"] == {"date_threshold": "2031-01-01T00:00:00+00:00"}


def test_each_call_is_a_connection_of_its_own(shadeform, server, machine_id):
    shadeform.restart(machine_id)
    shadeform.info(machine_id)
    assert [headers["Connection"] for _, _, headers, _ in server.requests] == ["close", "close"]


def test_an_id_cannot_name_another_path(shadeform, server):
    assert shadeform.info("../types?") is None
    assert server.requests[0][1] == "/v1/instances/..%2Ftypes%3F/info"


# What is read


def test_a_machine_is_read_with_its_cost_and_facts(shadeform, server, machine_id):
    server.instances[machine_id] |= {"ip": "1.0.0.1", "cost_estimate": "103.4"}
    machine = shadeform.info(machine_id)
    assert (machine.status, machine.ip, machine.ssh_user, machine.ssh_port) == ("active", "1.0.0.1", "shadeform", 22)
    assert machine.cost == Decimal("103.4")
    assert machine.facts["hourly_price"] == 210
    assert machine.error == ""


def test_neither_the_script_nor_the_environment_is_a_fact(shadeform, machine_id):
    machine = shadeform.info(machine_id)
    assert not {"launch_configuration", "envs"} & set(machine.facts)


def test_a_failed_machine_says_why(shadeform, server, machine_id):
    server.instances[machine_id] |= {"status": "error", "status_details": "out of capacity"}
    assert shadeform.info(machine_id).error == "out of capacity"


def test_what_no_column_holds_is_cut(shadeform, server, machine_id):
    odd = {"status": "s" * 99, "ip": "1\0" * 99, "ssh_port": 10**12, "cost_estimate": "1e30"}
    server.instances[machine_id] |= odd
    machine = shadeform.info(machine_id)
    assert (len(machine.status), len(machine.ip), machine.ssh_port, machine.cost) == (20, 100, 0, Decimal(0))
    assert "\0" not in machine.ip


def test_a_status_unknown_here_passes_through(shadeform, server, machine_id):
    server.instances[machine_id]["status"] = "hibernating"
    assert shadeform.info(machine_id).status == "hibernating"


def test_a_machine_that_is_gone_is_none(shadeform, server, machine_id):
    server.instances[machine_id]["status"] = "deleted"
    assert shadeform.info(machine_id) is None
    server.answers["info"] = b'{"id": "%s", "status": "deleted"}' % machine_id.encode()
    assert shadeform.info(machine_id) is None


def test_deleting_a_machine_that_is_gone_is_no_error(shadeform, server, machine_id):
    shadeform.delete(machine_id)
    assert server.instances[machine_id]["status"] == "deleting"
    del server.instances[machine_id]
    shadeform.delete(machine_id)


def test_an_address_that_knows_nothing_has_deleted_nothing(server, machine_id):
    elsewhere = Shadeform(KEY, f"{server.url}/wrong")
    with pytest.raises(Refused, match="404"):
        elsewhere.delete(machine_id)
    assert server.instances[machine_id]["status"] == "active"


def test_a_machine_that_the_list_still_has_is_not_deleted(shadeform, server, machine_id):
    server.fault("delete", 404)
    with pytest.raises(Refused, match="404"):
        shadeform.delete(machine_id)
    shadeform.delete(machine_id)
    assert server.instances[machine_id]["status"] == "deleting"


def test_restarting_one_that_is_gone_is_refused(shadeform):
    with pytest.raises(Refused, match="instance not found"):
        shadeform.restart("no-such-id")


def test_an_order_is_found_by_its_name(shadeform, order):
    assert shadeform.find(order.name) is None
    made = shadeform.create(order)
    assert shadeform.find(order.name).id == made


def test_a_machine_that_is_going_is_found_only_without_another(shadeform, order):
    first = shadeform.create(order)
    shadeform.delete(first)
    assert shadeform.find(order.name).status == "deleting"
    assert shadeform.find(order.name).id != shadeform.create(order)
    assert shadeform.find(order.name).status == "creating"


def test_types_come_as_the_contract_has_them(shadeform):
    offer = shadeform.types()[0]
    assert {**INSTANCE_TYPE, "boot_time": None}.items() <= {**offer, "boot_time": None}.items()
    assert (offer["id"], offer["region"], offer["rental_type"]) == ("hyperstack.A6000", "canada-2", "on_demand")
    assert offer["boot_time"]["average_seconds"] == 240


@pytest.mark.parametrize(
    "change",
    [
        {"deployment_type": "container"},
        {"hourly_price": None},
        {"hourly_price": "210"},
        {"availability": []},
        {"availability": [None, {}]},
        {"cloud": 7},
    ],
)
def test_what_an_engine_cannot_run_on_is_not_offered(shadeform, server, change):
    offers = [INSTANCE_TYPE, {**INSTANCE_TYPE, **change}]
    server.answers["types"] = json.dumps({"instance_types": offers}).encode()
    assert len(shadeform.types()) == 1


def test_a_list_that_is_not_understood_is_not_an_empty_one(shadeform, server):
    server.answers["instances_list"] = b'{"machines": []}'
    with pytest.raises(Unclear, match="not the list"):
        shadeform.find("engine-eng_1")


# How sure it is


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("fault", ["500_before", "500_after", "cut_before", "cut_after", "reset_after", 408, 502, 307])
def test_an_answer_that_did_not_come_is_unclear(shadeform, server, order, machine_id, operation, fault):
    server.fault(operation, fault)
    with pytest.raises(Unclear):
        WRITES[operation](shadeform, order, machine_id)
    assert len(server.requests) == 1


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
def test_a_refusal_is_told_in_the_providers_words(shadeform, server, order, machine_id, operation, status):
    server.words = "the wallet is empty"
    server.fault(operation, status)
    with pytest.raises(Refused, match=rf"refused with {status}: the wallet is empty\.$"):
        WRITES[operation](shadeform, order, machine_id)


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("fault", ["500_before", "cut_before", "half_after", 302])
def test_a_read_without_answer_is_unclear(shadeform, server, machine_id, operation, fault):
    server.fault(operation, fault)
    with pytest.raises(Unclear):
        READS[operation](shadeform, machine_id)


def test_an_order_may_have_arrived_all_the_same(shadeform, server, order):
    server.fault("create", "half_after")
    with pytest.raises(Unclear):
        shadeform.create(order)
    assert shadeform.find(order.name).id in server.instances


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"id": ""}', b'{"id": 7}', b"[]", b"", b'{"id": "x'])
def test_an_order_answered_without_id_is_unclear(shadeform, server, order, answer):
    server.answers["create"] = answer
    with pytest.raises(Unclear):
        shadeform.create(order)


def test_the_wrong_machine_in_an_answer_is_unclear(shadeform, server, machine_id):
    server.answers["info"] = b'{"id": "another", "status": "active"}'
    with pytest.raises(Unclear, match="another machine"):
        shadeform.info(machine_id)


def test_silence_is_unclear_within_the_timeout(server, order):
    server.fault("create", "slow_after")
    with pytest.raises(Unclear, match="in time"):
        Shadeform(KEY, server.url, timeout=0.2).create(order)


def test_nobody_there_means_that_nothing_was_sent(order):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Refused, match="could not be reached; nothing was sent"):
        Shadeform(KEY, f"http://127.0.0.1:{port}/v1").create(order)


def test_an_address_that_is_none_means_that_nothing_was_sent():
    with pytest.raises(Refused, match="nothing was sent"):
        Shadeform(KEY, "gopher://127.0.0.1").types()


def test_too_many_requests_says_to_come_later(shadeform, server, order):
    server.fault("create", 429)
    with pytest.raises(Refused, match="try again later"):
        shadeform.create(order)


def test_an_endless_answer_is_not_read_to_its_end(shadeform, server):
    server.answers["types"] = b" " * (9 * 1024 * 1024)
    with pytest.raises(Unclear, match="too long"):
        shadeform.types()


def test_a_proxy_of_the_environment_has_no_say(shadeform, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert shadeform.types()


# What it keeps to itself


def test_a_key_that_no_key_has_is_not_taken_nor_repeated():
    with pytest.raises(ValueError, match="characters") as caught:
        Shadeform("bad\nkey")
    assert "bad" not in str(caught.value)


def test_neither_key_prints(shadeform, order):
    shown = repr((shadeform, vars(shadeform), order))
    assert KEY not in shown
    assert ENGINE_KEY not in shown
    assert repr(ENGINE_KEY) not in shown


@pytest.mark.parametrize("fault", [400, "cut_before", "slow_after", 500])
def test_neither_key_is_in_an_error_or_in_what_led_to_it(server, order, fault, caplog):
    caplog.set_level("DEBUG")
    script = base64.b64encode(b"x" * 300).decode()
    server.words = f"bad key {KEY}, bad script {ENGINE_KEY} {script}"
    server.fault("create", fault)
    with pytest.raises((Refused, Unclear)) as caught:
        Shadeform(KEY, server.url, timeout=0.3).create(order)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert KEY not in told
    assert ENGINE_KEY not in told
    assert script[:80] not in told
    assert caught.value.__context__ is None


def test_the_providers_words_are_cut_and_harmless(shadeform, server, order):
    server.words = "no\x1b[31m\nroom " + "ab " * 5000
    server.fault("create", 400)
    with pytest.raises(Refused) as caught:
        shadeform.create(order)
    assert "no\\x1b[31m room" in str(caught.value)
    assert len(str(caught.value)) < 400
