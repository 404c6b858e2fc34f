"""Adding a verb means one class and its texts: what sets verbs apart is said there, and nowhere by their names."""

import ast
from pathlib import Path

import pytest

from engines.enums import MONEY, Verb
from engines.operations.behaviour import EDGE, LEVEL, PAID, RETRY, Behaviour
from engines.operations.verbs import VERBS, fit

ROOT = Path(__file__).resolve().parents[2] / "engines"
# Where verbs are named beside each other all the same, and why.
DECLARED = {
    "enums.py": "their words, and which of them spend money",
    "operations/behaviour.py": "how often each may be sent: the one table of RELIABILITY 4.1",
    "operations/moves.py": "money moves by tables of its own",
    "operations/extend.py": "what it goes beside",
    "operations/stop.py": "what it takes the place of",
    "operations/drain.py": "what it is queued behind",
    "operations/rename.py": "what it is queued behind",
    "operations/update.py": "what it is queued behind",
}


def verbs_in(node):
    """The verbs that a dict has as keys, or another literal as elements."""
    parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
    return [part for part in parts if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "Verb"]


def test_no_other_module_keeps_a_table_by_verb():
    others = ("controlplane", "agent", "migrations")
    files = [path for path in ROOT.rglob("*.py") if not set(others) & set(path.relative_to(ROOT).parts)]
    tables = {
        str(path.relative_to(ROOT))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if len(verbs_in(node)) > 1
    }
    assert tables <= set(DECLARED), sorted(tables - set(DECLARED))


def test_each_verb_is_one_class_and_one_line_of_retries():
    assert set(VERBS) == set(RETRY) == set(Verb)
    assert all(isinstance(each, Behaviour) and each.verb == verb for verb, each in VERBS.items())
    assert len({type(each) for each in VERBS.values()}) == len(Verb)


@pytest.mark.parametrize("verb", Verb)
def test_edges_and_money_are_sent_once_for_each_decision(verb):
    kind, sends, _ = RETRY[verb]
    assert kind == (PAID if verb in MONEY else EDGE if verb == Verb.RESTART else LEVEL)
    assert (sends == 1) == (kind != LEVEL)


@pytest.mark.parametrize(("verb", "most"), [("drain", 5), ("update", 2), ("stop", 2)])
def test_levels_are_sent_no_more_often_than_agreed(verb, most):
    assert VERBS[verb].max_sends == most


def test_what_cannot_be_taken_back_and_depends_on_the_engine_is_read_first():
    assert {verb for verb in Verb if VERBS[verb].reads_first} == {Verb.STOP, Verb.RESTART, *MONEY}


@pytest.mark.parametrize("verb", Verb)
def test_what_fits_beside_what_is_the_same_from_both_sides(verb):
    assert all(fit(verb, other) == fit(other, verb) for other in Verb)
