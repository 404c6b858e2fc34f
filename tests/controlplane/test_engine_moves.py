"""An engine's states move as the drain's model says, whatever is done to an engine in whichever state."""

import itertools

import pytest

from engines.controlplane import dispatch
from engines.controlplane.enums import EngineState
from engines.controlplane.models import Engine
from engines.enums import TaskStatus
from tests.controlplane import drain_model as model

WORDS = {"running": EngineState.RUNNING, "draining": EngineState.DRAINING, "drained": EngineState.STOPPED}
# What the code does beyond the model, which has one process and no stop.
BEYOND = {
    (EngineState.STOPPING, EngineState.STOPPED): "a stop's drain ends as any other",
    (EngineState.PENDING, EngineState.RUNNING): "the first hello of a new engine",
    (EngineState.RESTARTING, EngineState.RUNNING): "back from its restart",
}
EVENTS = {
    "drain": lambda agent, caller: caller.post(f"/engines/{agent.id}/drain"),
    "drained": lambda agent, caller: agent.report_drained(1),
    "drained, of another drain": lambda agent, caller: agent.report_drained(7),
    "dispatch": lambda agent, caller: dispatch.run(),
    "hang up": lambda agent, caller: agent.hang_up(),
    "hello": lambda agent, caller: agent.connect(mode="draining", drain_epoch=1),
    "hello, not draining": lambda agent, caller: agent.connect(),
}


def modelled():
    """Every change of an engine's state on any path of the model."""
    config, none = model.Cfg(n=1), frozenset()
    start = model.S(("q",), "running", True, (), (), "running", none, none, False, False, (0,), False, 0, True)
    seen, found, waiting = {start}, set(), [start]
    while waiting:
        state = waiting.pop()
        for _, after in model.succ(state, config):
            found |= {(WORDS[state.est], WORDS[after.est])} if state.est != after.est else set()
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return found


@pytest.fixture
def moved(agent, caller, queue):
    """Every change of an engine's state by anything that a drain consists of."""
    found = set()
    for state, event, works in itertools.product(EngineState, EVENTS, (False, True)):
        agent.connect()
        facts = {"state": state, "follow_up": "", "drain_epoch": 1, "drained_epoch": 0}
        Engine.objects.filter(pk=agent.id).update(**facts)
        task = queue(engine=agent.row, worker=agent.row.workers.first(), status=TaskStatus.RUNNING) if works else None
        EVENTS[event](agent, caller)
        after = EngineState(agent.row.state)
        if after != state:
            found.add((state, after))
            assert not (works and after == EngineState.STOPPED), f"{event} ends an engine that works"
        if task:
            task.delete()
    return found


def test_the_code_has_the_moves_of_the_model_and_beyond_them_only_named_ones(moved):
    assert modelled() - moved == set()
    assert moved - modelled() == set(BEYOND)
