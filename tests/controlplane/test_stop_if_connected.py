"""A stop that was agreed to for a connected engine cuts nothing on one that lost its connection a moment ago."""

import pytest

from engines import wire
from engines.controlplane.enums import EngineState
from engines.controlplane.models import Engine
from engines.enums import TaskStatus

ONLY = {wire.ONLY_IF_CONNECTED.replace("-", "_"): "true"}


def stop(caller, agent, **headers):
    answer = caller.post(f"/engines/{agent.id}/stop", **headers)
    return answer.status_code


@pytest.mark.parametrize("state", [EngineState.RUNNING, EngineState.DRAINING])
def test_an_engine_that_lost_its_connection_is_left_alone_with_its_task(caller, agent, running, state):
    Engine.objects.update(state=state, drain_epoch=1)
    agent.hang_up()
    assert stop(caller, agent, **ONLY) == 409
    running.refresh_from_db()
    assert (agent.row.state, running.status) == (state, TaskStatus.RUNNING)


def test_without_that_word_it_is_stopped_at_once(caller, agent, running):
    agent.hang_up()
    assert stop(caller, agent) == 200
    running.refresh_from_db()
    assert (agent.row.state, running.status) == (EngineState.STOPPED, TaskStatus.FAILED)


def test_a_connected_engine_is_stopped_as_ever(caller, agent):
    assert stop(caller, agent, **ONLY) == 200
    assert agent.row.state == EngineState.STOPPING


@pytest.mark.parametrize("state", [EngineState.PENDING, EngineState.RESTARTING, EngineState.STOPPED])
def test_where_nothing_runs_the_connection_does_not_matter(caller, agent, state):
    agent.hang_up()
    Engine.objects.update(state=state)
    assert stop(caller, agent, **ONLY) == 200
    assert agent.row.state == EngineState.STOPPED
