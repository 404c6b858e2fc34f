"""How an engine makes itself known, and what it does when it may not."""

import re
import signal
import socket

from engines import wire
from tests.agent.scripted import KEY, ScriptedControlPlane


def test_it_registers_with_its_host_and_its_workers(plane, line):
    body = plane.registrations[0]
    assert body["local_engine_state"]["id"] == ""
    assert body["local_engine_state"]["name"] == "host-1"
    assert body["system_info"]["hostname"] == socket.gethostname()
    assert body["system_info"]["ram"]["total"] > 0
    assert body["worker_config"] == {"gpu": [], "cpu": {"count": 2}}


def test_the_key_is_not_in_the_registration(plane, line):
    assert KEY not in repr(plane.registrations)


def test_a_restart_uses_the_saved_id_and_a_new_boot_id(plane, engine, line, start):
    engine.end()
    start()
    plane.connection(2)
    first, second = (body["local_engine_state"] for body in plane.registrations)
    assert second["id"] == "eng_1"
    assert first["boot_id"] != second["boot_id"]


def test_an_id_the_api_forgot_is_replaced_by_a_new_one(plane, engine, line, start):
    engine.end()
    plane.known = {"eng_2"}
    again = start()
    again.says("registered as eng_2")
    assert [body["local_engine_state"]["id"] for body in plane.registrations] == ["", "eng_1", ""]


def test_an_engine_born_with_an_id_registers_with_it(plane, start):
    plane.known = {"eng_1", "eng_9"}
    start("--engine-id", "eng_1").says("registered as eng_1")
    assert plane.registrations[0]["local_engine_state"]["id"] == "eng_1"


def test_a_saved_id_goes_before_the_one_it_was_born_with(plane, engine, line, start):
    engine.end()
    plane.known = {"eng_1", "eng_9"}
    start("--engine-id", "eng_9")
    plane.connection(2)
    assert plane.registrations[-1]["local_engine_state"]["id"] == "eng_1"


def test_an_id_it_was_born_with_is_never_replaced(plane, start):
    engine = start("--engine-id", "eng_9")
    engine.says("the API answers 404 no such engine; trying again")
    plane.until(lambda: len(plane.registrations) > 1, "another try")
    assert {body["local_engine_state"]["id"] for body in plane.registrations} == {"eng_9"}


def test_it_waits_for_an_api_that_is_not_there_yet(start, fleeting):
    fleeting.stop()
    engine = start(url=fleeting.url)
    engine.says("does not answer")
    late = ScriptedControlPlane(fleeting.port).start()
    try:
        late.connection()
    finally:
        late.stop()


def test_a_wrong_key_ends_it_with_2_and_a_reason(start):
    engine = start(key="inf_wrong-key")
    assert engine.exits() == 2
    assert re.search("refuses this engine: 401 unknown key.*engines:write", engine.output)


def test_a_key_that_is_revoked_later_ends_it_after_its_task(plane, engine, line):
    line.assign("t1", seconds=0.3)
    line.wait("task_accepted")
    plane.key = "inf_another-key"
    line.close(wire.CLOSE_REFUSED)
    assert engine.exits() == 2
    assert (engine.state_dir / "results" / "t1.json").exists()


def test_the_key_is_never_printed(engine, line):
    line.assign("t1", "checksum", megabytes=1)
    line.wait("task_result")
    line.close()
    engine.says("trying again")
    engine.signal(signal.SIGTERM)
    engine.exits()
    assert KEY not in engine.output


def test_two_processes_do_not_share_a_state_directory(engine, line, start):
    second = start()
    assert second.exits() == 4
    assert "is in use by another engine (process" in second.output
