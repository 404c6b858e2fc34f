"""An engine's process is killed while it runs a task and drains: nothing is called finished, nothing runs twice."""

import pytest

from tests.harness import drain, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

FAILED = 11


def test_the_drain_loses_contact_and_ends_when_the_engine_is_back(stack):
    uid = stack.engine("killed", cpus=1)
    task = stack.run(on="killed", seconds=60)
    stack.in_the_portal(uid)
    browser = stack.sign_in("admin@demo.example")
    operation = drain(browser, uid, "the engine dies under it")
    wait_for(lambda: "In progress" in browser.get(operation).text, 30, "drain in progress")
    stack.kill("killed")
    wait_for(lambda: "Lost contact" in browser.get(operation).text, 60, "lost contact")
    assert stack.task(task)["status"] != FAILED
    stack.start("killed")
    wait_for(lambda: "Succeeded" in browser.get(operation).text, 60, "end of the drain")
    ended = stack.task(task)
    assert (ended["status"], ended["error"]) == (FAILED, "the engine restarted while this task ran")
    assert [event["kind"] for event in ended["events"]].count("dispatched") == 1
    assert stack.ended("killed") == 0
