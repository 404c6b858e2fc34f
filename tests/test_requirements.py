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
    "D1": "test_progress_names_the_task_it_waits_for",
    "D2": "test_an_offline_engine_is_refused_in_plain_words",
    "D3": "test_silence_is_lost_contact_and_never_done",
    "D4": "test_an_engine_that_runs_again_forgot_the_drain",
    "D5": "test_a_lost_engine_never_counts_as_drained",
    "D6": "test_past_its_deadline_it_asks_a_person_and_cuts_nothing",
    "D8": "test_a_stop_takes_the_place_of_a_drain_and_says_so_first",
    "D9": "test_an_engine_that_went_offline_since_is_not_stopped",
    "D10": "test_those_that_are_not_asked_are_kept_with_the_reason",
    "D11": "test_a_dead_workers_send_becomes_unknown_when_its_lease_runs_out",
    "D13": "test_rate_limits_are_obeyed",
    "D17": "test_an_engine_that_two_passes_and_a_question_missed_is_deleted",
    "D18": "test_of_two_readings_at_once_the_newer_one_stays",
    "D19": "test_an_unknown_status_moves_nothing",
    "D21": "test_the_same_form_sent_again_leads_to_its_operation_whatever_changed",
    "D22": "test_a_key_that_the_api_refuses_is_flagged_and_the_next_one_is_used",
    **{f"D{number}": f"test_d{number}_" for number in (12, 20)},
}
ELSEWHERE = {"E38": "make nemesis"}
MISSING = {
    "D7": "an update does not queue behind a drain: it is refused while one is open",
    "D14": "there is no budget of requests for one API beyond its own 429",
    "D16": "durations go by the boot clock; leases by the database's, which for SQLite is the host's wall clock",
    "D15": "deadlines are ours; a clock that differs is not announced",
}
ALL = {*(f"E{n}" for n in range(1, 39)), *(f"K{n}" for n in range(1, 20)), *(f"D{n}" for n in range(1, 23))}


def test_every_requirement_has_a_test_or_is_said_to_have_none():
    assert set(WHERE) | set(ELSEWHERE) | set(MISSING) == ALL
    assert set(WHERE) & set(MISSING) == set()


def test_every_named_test_is_there():
    text = "\n".join(file.read_text() for file in TESTS.rglob("test_*.py"))
    there = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    assert [name for name in WHERE.values() if not any(each.startswith(name) for each in there)] == []
