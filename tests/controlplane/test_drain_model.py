"""The drain protocol's model: right as designed, wrong under each mutant, and the same moves as the code's."""

from collections import deque

import pytest

from engines.controlplane.enums import MOVES
from engines.enums import TaskStatus
from tests.controlplane import drain_model as model

DESIGNED = {"two tasks": {}, "three tasks, one disconnect": {"n": 3, "disc": 1}}
MUTANTS = {
    "dispatch does not check, and the engine does not refuse": {"dispatch_checks": False, "engine_refuses": False},
    "drained is what has no running row": {"count_assigned": False, "trust_report": False},
    "drained by the database, without a report": {"trust_report": False},
    "dispatch before the hello is reconciled": {"sync_first": False},
    "the drain is not sent again after a reconnect": {"resend_drain": False},
    "results are not held until acknowledged": {"hold_results": False},
    "look idle, then terminate": {"check_then_drain": True},
}
WORDS = {"q": TaskStatus.QUEUED, "a": TaskStatus.DISPATCHED, "r": TaskStatus.RUNNING, "d": TaskStatus.COMPLETED}
# What the code does beyond the model, where engines may die for good.
BEYOND = {
    (TaskStatus.RUNNING, TaskStatus.QUEUED): "its engine was lost, and who ordered it said: run it again",
    (TaskStatus.QUEUED, TaskStatus.COMPLETED): "an engine given up for lost came back with the result: no second run",
}


@pytest.mark.parametrize("config", DESIGNED.values(), ids=DESIGNED)
def test_as_designed_no_order_of_events_breaks_it(config):
    assert model.run("", model.Cfg(**config))[0] == "ok"


@pytest.mark.parametrize("config", MUTANTS.values(), ids=MUTANTS)
def test_without_the_rule_some_order_of_events_breaks_it(config):
    assert model.run("", model.Cfg(**config))[0].startswith("VIOLATION")


def moves_of_the_model():
    """Every change of a task's state on any path of the model."""
    config = model.Cfg()
    none, queued, unstarted = frozenset(), ("q",) * config.n, (0,) * config.n
    start = model.S(queued, "running", True, (), (), "running", none, none, False, False, unstarted, False, 0, True)
    found, seen, queue = set(), {start}, deque([start])
    while queue:
        state = queue.popleft()
        for _, after in model.succ(state, config):
            pairs = zip(state.tasks, after.tasks, strict=True)
            found |= {(WORDS[one], WORDS[other]) for one, other in pairs if one != other}
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return found


def test_the_code_has_the_moves_of_the_model_and_beyond_them_only_named_ones():
    known, modelled = set(WORDS.values()), moves_of_the_model()
    coded = {(before, after) for before in known for after in MOVES.get(before, ()) if after in known}
    assert modelled - coded == set()
    assert coded - modelled == set(BEYOND)
