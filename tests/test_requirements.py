"""Where each requirement about money (E), crashes (K) and drains (D) is tested: look for "D7", or "E31", in this file.

A name is a test function's, or the beginning of several. What is not here is not tested: MISSING says so aloud.
"""

import re
from pathlib import Path

TESTS = Path(__file__).parent
WHERE = {
    **{f"E{number}": f"test_e{number}_" for number in range(1, 38) if number not in (17, 18, 19, 20, 21)},
    "E17": "test_no_answer_and_no_effect_is_not_applied_once_it_has_settled",
    "E18": "test_no_readable_answer_but_an_effect_is_observed",
    "E19": "test_no_readable_answer_but_an_effect_is_observed",
    "E20": "test_no_readable_answer_but_an_effect_is_observed",
    "E21": "test_no_answer_and_no_effect_is_not_applied_once_it_has_settled",
    **{f"K{number}": f"test_k{number}_" for number in (1, 2, 8, 9, *range(12, 20))},
    **{f"K{number}": "test_killed_before_it_was_armed_another_worker_sends_it" for number in (3, 4, 5)},
    "K6": "test_killed_after_it_was_armed_nobody_sends_it",
    "K7": "test_killed_after_it_was_armed_nobody_sends_it",
    "K10": "test_killed_before_the_answer_was_recorded_it_is_observed",
    "K11": "test_killed_before_the_answer_was_recorded_it_is_observed",
    "D2": "test_an_offline_engine_is_refused_in_plain_words",
    "D9": "test_an_engine_that_went_offline_since_is_not_stopped",
    "D19": "test_an_unknown_status_moves_nothing",
    **{f"D{number}": f"test_d{number}_" for number in range(1, 23) if number not in (2, 9, 19)},
}
ELSEWHERE = {"E38": "make nemesis"}
MISSING = {}
ALL = {*(f"E{n}" for n in range(1, 39)), *(f"K{n}" for n in range(1, 20)), *(f"D{n}" for n in range(1, 23))}


def test_every_requirement_has_a_test_or_is_said_to_have_none():
    assert set(WHERE) | set(ELSEWHERE) | set(MISSING) == ALL
    assert set(WHERE) & set(MISSING) == set()


def test_every_named_test_is_there():
    text = "\n".join(file.read_text() for file in TESTS.rglob("test_*.py"))
    there = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    assert [name for name in WHERE.values() if not any(each.startswith(name) for each in there)] == []
