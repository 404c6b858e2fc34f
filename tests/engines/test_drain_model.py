"""The portal's drain, watched on every path of the control plane's model: the same moves, and no end before its end."""

from collections import deque
from datetime import timedelta

import pytest

from engines.enums import OPEN, State
from engines.models import Engine, Operation
from engines.operations.drain import Drain
from engines.operations.moves import MOVES
from tests.clock import NOON
from tests.controlplane import drain_model as model

LONG_AGO = NOON - timedelta(hours=1)
# What the code does beyond the model, which has one drain, no deadline and nobody who decides: each move, and why.
TAKEN_BACK = "a person takes it back before it is sent, or lost the right to it"
REPLACED = "a stop took its place"
CLOSED = "a person stopped watching it"
LATE = "it is past its deadline"
FORGOTTEN = "the engine forgot it, or is gone"
BEYOND = {
    (State.WAITING, State.WAITING): "what it was queued behind has ended: now it waits for the engine",
    (State.WAITING, State.REQUESTED): "asked while the engine was away, and it is back",
    (State.WAITING, State.CANCELLED): f"the engine did not come back in time, is stopped or gone; or {TAKEN_BACK}",
    (State.WAITING, State.SUPERSEDED): REPLACED,
    (State.REQUESTED, State.CANCELLED): TAKEN_BACK,
    (State.REQUESTED, State.SUPERSEDED): REPLACED,
    (State.SENDING, State.WAITING): "and away again",
    (State.SENDING, State.WORKING): "an earlier request arrived late: it is read before it is sent again",
    (State.SENDING, State.SUCCEEDED): "and was over by then",
    (State.SENDING, State.REQUESTED): "nothing was sent: no connection, or a 429",
    (State.SENDING, State.FAILED): "and that as often as it may be tried; or its key cannot be opened",
    (State.ACCEPTED, State.NEEDS_ATTENTION): FORGOTTEN,
    (State.ACCEPTED, State.STUCK): LATE,
    (State.ACCEPTED, State.SUPERSEDED): REPLACED,
    (State.ACCEPTED, State.FAILED): "an update that the engine says has failed: drains share the table with it",
    (State.WORKING, State.NEEDS_ATTENTION): FORGOTTEN,
    (State.WORKING, State.STUCK): LATE,
    (State.WORKING, State.SUPERSEDED): REPLACED,
    (State.WORKING, State.FAILED): CLOSED,
    (State.UNKNOWN, State.NEEDS_ATTENTION): "sent as often as it may be, and the engine still runs; or it is gone",
    (State.UNKNOWN, State.STUCK): LATE,
    (State.UNKNOWN, State.SUPERSEDED): REPLACED,
    (State.UNKNOWN, State.FAILED): "an update that the engine says has failed: drains share the table with it",
    (State.LOST_CONTACT, State.STUCK): LATE,
    (State.LOST_CONTACT, State.SUPERSEDED): REPLACED,
    (State.LOST_CONTACT, State.FAILED): CLOSED,
    (State.STUCK, State.WORKING): "a person waits on",
    (State.STUCK, State.SUCCEEDED): "and it ends",
    (State.STUCK, State.NEEDS_ATTENTION): FORGOTTEN,
    (State.STUCK, State.SUPERSEDED): REPLACED,
    (State.STUCK, State.FAILED): CLOSED,
    (State.NEEDS_ATTENTION, State.REQUESTED): "a person has it sent again, or wanted that when it was asked for",
    (State.NEEDS_ATTENTION, State.WORKING): "it drains after all",
    (State.NEEDS_ATTENTION, State.SUCCEEDED): "and ends",
    (State.NEEDS_ATTENTION, State.SUPERSEDED): REPLACED,
    (State.NEEDS_ATTENTION, State.FAILED): "a person closed it",
}

# A reading that says so moves nothing: a person has it already.
STAYS = (State.NEEDS_ATTENTION, State.LOST_CONTACT)


def shown(control_plane):
    """The engine's status that the API gives in a state of the model."""
    if not control_plane.conn and control_plane.est != "drained":
        return "disconnected"
    return {"running": "running", "draining": "draining", "drained": "stopped"}[control_plane.est]


def read(state, status):
    """The operation's state after a reading."""
    operation = Operation(state=state, verb="drain", attempts=1, sent_at=LONG_AGO)
    to = Drain().judge(operation, Engine(status=status, wire={}), NOON).state
    return state if (state, to) == STAYS else to


def steps(control_plane, state, config):
    """What may happen next: the model's own steps without its operator, who is the portal here, and the portal's."""
    drained_by_us = None
    for action, after in model.succ(control_plane, config):
        if action == "operator drains":
            drained_by_us = after
        else:
            yield after, state
    if state == State.REQUESTED:
        yield control_plane, State.SENDING
    elif state == State.SENDING:
        yield control_plane, State.UNKNOWN  # nothing of it arrived, or nobody knows
        if shown(control_plane) == "running":
            yield drained_by_us, State.ACCEPTED
            yield drained_by_us, State.UNKNOWN  # the answer was lost
        else:
            yield control_plane, State.REFUSED
    elif state in OPEN:
        yield control_plane, State(read(state, shown(control_plane)))


@pytest.fixture(scope="module")
def walked():
    """Every pair of states that can come about, and every move of the operation."""
    config = model.Cfg(n=1)
    none = frozenset()
    start = model.S(("q",), "running", True, (), (), "running", none, none, False, False, (0,), False, 0, True)
    seen, moves, queue = {(start, State.REQUESTED)}, set(), deque([(start, State.REQUESTED)])
    while queue:
        control_plane, state = queue.popleft()
        for pair in steps(control_plane, state, config):
            if pair[1] != state:
                moves.add((state, pair[1]))
            if pair not in seen:
                seen.add(pair)
                queue.append(pair)
    return seen, moves


def test_it_has_succeeded_only_where_the_engine_is_drained(walked):
    assert {control_plane.est for control_plane, state in walked[0] if state == State.SUCCEEDED} == {"drained"}


def test_wherever_the_engine_is_drained_a_reading_ends_it(walked):
    drained = {state for control_plane, state in walked[0] if control_plane.est == "drained" and state in OPEN}
    waiting = drained - {State.REQUESTED, State.SENDING}
    assert waiting
    assert {read(state, "stopped") for state in waiting} == {State.SUCCEEDED}


def test_the_code_has_the_moves_of_the_model_and_beyond_them_only_named_ones(walked):
    modelled = walked[1]
    coded = {(before, after) for before in MOVES for after in MOVES[before] if before != State.CHECKING}
    assert modelled - coded == set()
    assert coded - modelled == set(BEYOND)
