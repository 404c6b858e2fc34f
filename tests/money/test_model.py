"""The protocol's model: exhaustively right as designed, wrong under each mutant, and the same moves as the code's."""

from collections import deque

import pytest

from engines.enums import State
from engines.operations.moves import EXTEND_MOVES, MOVES
from tests.money import extend_model as model

MUTANTS = {
    "a redelivered message may run an armed one again": {"armed_blocks": False},
    "no window between arming and sending": {"window_check": False},
    "a retry by itself after a timeout": {"auto_retry": True},
    "no lock, two people": {"engine_lock": False, "two_intents": True, "maxt": 4},
    "the deadline is read outside the lock": {"lock_first": False, "two_intents": True, "maxt": 4},
    "no fence, two people": {"fence": False, "two_intents": True, "maxt": 4},
    "no time to settle": {"settle": 0},
    "settled sooner than the API is slow": {"settle": 2, "delay": 3},
}
DESIGNED = {"one": {}, "two people": {"two_intents": True, "maxt": 4}, "extended outside": {"external": True}}

# The model's words for our states. Several of its final words are one state here, told apart by the outcome.
WORDS = {
    "queued": State.REQUESTED,
    "preflight": State.CHECKING,
    "armed": State.SENDING,
    "unknown": State.UNKNOWN,
    "ambiguous": State.NEEDS_ATTENTION,
    "confirmed": State.SUCCEEDED,
    "observed": State.SUCCEEDED,
    "failed": State.REFUSED,
    "notapplied": State.FAILED,
    "notsent": State.FAILED,
}
# What the code does beyond the model: none of these sends anything.
BEYOND = {
    (State.REQUESTED, State.CANCELLED): "right, key or time lost before the claim, or taken back",
    (State.REQUESTED, State.NEEDS_RECONFIRM): "a restored backup does not know what was done since",
    (State.CHECKING, State.SUCCEEDED): "runs that long already",
    (State.CHECKING, State.NEEDS_RECONFIRM): "price or deadline changed",
    (State.CHECKING, State.REFUSED): "nothing to buy, or the key is refused",
    (State.CHECKING, State.FAILED): "no connection came about",
    (State.CHECKING, State.CANCELLED): "frozen, or over a limit",
    (State.SENDING, State.NEEDS_ATTENTION): "refused, but a reading says otherwise",
    (State.SENDING, State.REQUESTED): "429, and a reading shows that nothing happened",
    (State.NEEDS_ATTENTION, State.SUCCEEDED): "a person's word",
    (State.NEEDS_ATTENTION, State.FAILED): "a person's word",
}


@pytest.mark.parametrize("config", DESIGNED.values(), ids=DESIGNED)
def test_as_designed_no_order_of_events_breaks_it(config):
    assert model.run("", model.Cfg(**config))[1] == "ok"


@pytest.mark.parametrize("config", MUTANTS.values(), ids=MUTANTS)
def test_without_the_rule_some_order_of_events_breaks_it(config):
    assert model.run("", model.Cfg(**config))[1].startswith("VIOLATION")


def moves_of_the_model():
    """Every change of an operation's state on any path of the model."""
    found = set()
    for config in (model.Cfg(), model.Cfg(external=True, maxt=5)):
        idle = (model.IDLE, model.IDLE)
        start = model.S(0, 0, (model.opx("queued"), model.opx("none"), model.opx("none")), idle, (), False)
        seen, queue = {start}, deque([start])
        while queue:
            state = queue.popleft()
            for _, after in model.succ(state, config):
                pairs = zip(state.ops, after.ops, strict=True)
                found |= {(one.st, other.st) for one, other in pairs if one.st != other.st and one.st != "none"}
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
    return {(WORDS[before], WORDS[after]) for before, after in found}


def moves_of_the_code():
    reachable, waiting = {State.REQUESTED}, [State.REQUESTED]
    while waiting:
        new = EXTEND_MOVES[waiting.pop()] - reachable
        reachable |= new
        waiting.extend(new)
    return {(before, after) for before in reachable for after in EXTEND_MOVES[before]}


def test_the_code_has_the_moves_of_the_model_and_beyond_them_only_named_ones():
    modelled, coded = moves_of_the_model(), moves_of_the_code()
    assert modelled - coded == set()
    assert coded - modelled == set(BEYOND)


def test_what_was_perhaps_sent_never_leads_back_by_itself():
    assert State.REQUESTED not in EXTEND_MOVES[State.UNKNOWN] | EXTEND_MOVES[State.NEEDS_ATTENTION]
    assert State.REQUESTED in MOVES[State.UNKNOWN]  # as it may for other verbs: the table is money's own
