"""Stop and update from the portal, on real engines."""

import pytest

from engines.agent.package import build
from tests.harness import FINISHED, ask, drain, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture
def browser(stack):
    return stack.sign_in("admin@demo.example")


def test_a_stopped_engine_finishes_what_it_runs(stack, browser):
    uid = stack.engine("to-stop", cpus=1)
    task = stack.run(on="to-stop", seconds=4)
    stack.in_the_portal(uid)
    operation = ask(browser, uid, "stop", "the rack moves")
    wait_for(lambda: "Succeeded" in browser.get(operation).text, 60, "end of the stop")
    assert stack.task(task)["status"] == FINISHED
    assert stack.ended("to-stop") == 0


def test_an_update_that_cannot_be_says_why_and_the_engine_works_on(stack, browser):
    uid = stack.engine("from-source", cpus=1)
    stack.in_the_portal(uid)
    operation = ask(browser, uid, "update", "there is none", version="v9.9.9")
    wait_for(lambda: "runs on" in browser.get(operation).text, 60, "end of the update")
    task = stack.run(on="from-source", seconds=0.1)
    wait_for(lambda: stack.task(task)["status"] == FINISHED, 20, "task")


@pytest.fixture
def program(stack, tmp_path):
    """An engine of v5.0.0, where v5.1.0 can be had."""
    program = tmp_path / "engine"
    program.write_bytes(build("v5.0.0", tmp_path / "old").read_bytes())
    program.chmod(0o700)
    build("v5.1.0", stack.place.data / "dist")
    return program


def test_an_engine_becomes_another_version(stack, browser, program):
    uid = stack.engine("to-update", cpus=1, program=program)
    stack.in_the_portal(uid)
    operation = ask(browser, uid, "update", "the new one", version="stable")
    wait_for(lambda: "It runs v5.1.0 now" in browser.get(operation).text, 60, "end of the update")
    task = stack.run(on="to-update", seconds=0.1)
    wait_for(lambda: stack.task(task)["status"] == FINISHED, 20, "task")


def test_an_update_queued_behind_a_drain_comes_once_the_engine_is_started_again(stack, browser, program):
    uid = stack.engine("drained-first", cpus=1, program=program)
    task = stack.run(on="drained-first", seconds=90)
    stack.in_the_portal(uid)
    drained = drain(browser, uid, "another disk")
    wait_for(lambda: "In progress" in browser.get(drained).text, 30, "drain in progress")
    update = ask(browser, uid, "update", "and the new one", version="stable")
    assert "Queued" in browser.get(update).text
    with stack.api() as api:
        api.post(f"/tasks/{task}/cancel").raise_for_status()
    wait_for(lambda: "Succeeded" in browser.get(drained).text, 60, "end of the drain")
    assert stack.ended("drained-first") == 0
    wait_for(lambda: "Waits for the engine" in browser.get(update).text, 20, "update that waits for the engine")
    assert "not yet" in browser.get(update).text
    stack.start("drained-first")
    wait_for(lambda: "It runs v5.1.0 now" in browser.get(update).text, 60, "end of the update")
