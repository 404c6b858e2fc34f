"""Where each requirement about money (E), crashes (K), drains (D) and security (V) is tested: look for "D7", "V6.3.1".

A name is a test function's, or the beginning of several. What is not here is not tested: MISSING says so aloud.
V is the chosen part of OWASP's ASVS 5.0.
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
    **{f"D{number}": f"test_d{number}_" for number in range(1, 23)},
}
SECURITY = {
    "1.2.1": "test_it_is_shown_as_text_on_every_page test_nor_does_it_live_in_what_is_swapped_into_a_page",
    "1.2.2": "test_what_would_do_something_is_found test_what_an_address_says_is_shown_as_text",
    "1.2.4": "test_nothing_is_asked_of_the_database_in_words_of_its_own test_nothing_is_broken_by_a_null",
    "1.2.10": "test_no_cell_of_a_sheet_is_a_formula test_names_from_outside_are_made_safe_in_the_file",
    "1.3.2": "test_it_is_shown_as_text_on_every_page test_an_odd_id_is_unknown",
    "1.3.6": "test_no_key_is_sent_there test_no_connection_leads_inside test_however_this_machine_is_spelled",
    "2.2.1": "test_hours_that_are_none_are_said_to_be_none test_times_that_are_none_are_said_to_be_none",
    "2.2.3": "test_e4_altered_hours_are_refused_and_recorded test_limits_that_are_none_change_nothing",
    "2.3.1": "test_e31_what_another_page_showed_is_not_approved test_the_code_has_the_moves_of_the_model_and_beyond",
    "2.3.2": "test_e8_ test_e9_ test_each_limit_is_held_and_named",
    "2.3.3": "test_killed_before_it_was_armed test_a_purchase_without_room_for_its_audit_entry_is_none",
    "2.3.4": "test_e6_ test_e9_",
    "2.3.5": "test_e31_ test_e32_",
    "2.4.1": "test_a_person_s_minute_is_used_up test_a_team_as_a_whole_is_bounded_too test_exports_are_counted_apart",
    "3.3.1": "test_cookies_are_bound_to_host_and_tls",
    "3.3.2": "test_cookies_are_bound_to_host_and_tls",
    "3.3.3": "test_cookies_are_bound_to_host_and_tls",
    "3.3.4": "test_cookies_are_bound_to_host_and_tls",
    "3.4.1": "test_every_answer_insists_on_tls_for_a_year",
    "3.4.3": "test_every_answer_carries_the_headers test_no_page_and_no_action_breaks_the_policy",
    "3.4.4": "test_every_answer_carries_the_headers",
    "3.4.5": "test_every_answer_carries_the_headers",
    "3.4.6": "test_every_answer_carries_the_headers",
    "3.5.1": "test_without_its_token_nothing_is_changed",
    "3.5.3": "test_reading_changes_nothing test_nor_does_asking_about_it",
    "3.7.2": "test_it_leads_nowhere_else test_and_never_to_another_site test_a_page_elsewhere_is_not_come_back_to",
    "4.1.3": "test_an_address_that_a_caller_claims_is_not_written_down test_a_forged_address_gives_no_new_tries",
    "4.4.1": "test_an_api_over_tls_has_its_socket_over_tls test_that_a_key_travels_unprotected_is_said",
    "4.4.2": "test_a_browser_is_a_403",
    "4.4.3": "test_without_a_key_it_is_a_401 test_a_revoked_key_ends_the_connection",
    "6.1.1": "test_a_stranger_s_guesses_from_elsewhere_lock_nobody_out",
    "6.2.1": "test_a_weak_one_is_refused",
    "6.2.4": "test_a_weak_one_is_refused",
    "6.2.9": "test_letters_alone_are_enough_if_they_are_many",
    "6.2.12": "test_a_breached_password_is_refused",
    "6.3.1": "test_ten_thousand_guesses_cost_a_handful_of_looks test_a_guesser_is_slowed_down",
    "6.3.3": "test_nothing_else_opens test_a_password_alone_leads_to_setting_one_up",
    "6.3.4": "test_a_second_factor_is_asked_for_as_well test_what_is_not_offered_is_not_there",
    "6.4.3": "test_what_is_not_offered_is_not_there",  # there is no reset
    "6.4.4": "test_who_lost_all_is_helped_on_the_command_line",
    "6.5.1": "test_a_code_counts_once_as_long_as_it_is_valid test_a_code_lets_in_once_also_at_the_same_time",
    "6.5.5": "test_a_clock_may_be_off_by_one_period",
    "6.8.1": "test_an_address_alone_opens_no_account test_another_provider_that_calls_somebody_the_same_is_nobody",
    "6.8.2": "test_a_token_that_the_provider_did_not_sign test_a_token_that_anybody_could_have_made",
    "7.2.4": "test_a_session_gets_a_new_name_at_sign_in test_confirming_renames_the_session",
    "7.3.1": "test_half_an_hour_of_nothing_ends_it test_a_page_that_updates_itself_is_no_sign_of_anybody",
    "7.3.2": "test_nothing_keeps_it_going_beyond_twelve_hours",
    "7.4.1": "test_signing_out_ends_the_session test_it_ends_when_its_reader_is_signed_out_or_removed",
    "7.4.2": "test_being_switched_off_ends_open_sessions",
    "7.4.3": "test_other_sessions_end_and_this_one_goes_on test_a_change_signs_out_everywhere_else",
    "7.5.2": "test_one_session_is_ended_from_another test_all_others_are_ended_at_once",
    "7.5.3": "test_after_ten_minutes_nothing_is_asked_and_every_word_stays test_who_signed_in_long_ago_confirms_first",
    "8.2.1": "test_every_cell_of_the_table_holds test_no_page_leads_to_what_its_reader_may_not_do",
    "8.2.2": "test_a_foreign_id_is_unknown test_nor_is_what_a_colleague_has_for_themselves",
    "8.2.3": "test_nobody_chooses_an_address_a_role_or_a_team test_nobody_is_made_a_member_of_a_team_that_a_form",
    "8.3.2": "test_a_role_change_holds_at_the_next_request test_e34_ test_who_lost_the_right_may_not",
    "8.4.1": "test_a_foreign_id_is_unknown test_no_page_names_anything_of_another_team test_no_stream_hears_of",
    "10.1.2": "test_a_way_back_that_another_browser_was_given_is_refused",
    "10.2.1": "test_a_way_back_leads_in_once",
    "10.5.1": "test_a_token_that_is_not_for_this_sign_in",
    "10.5.2": "test_an_address_alone_opens_no_account",
    "10.5.3": "test_a_provider_with_another_name_than_its_address_is_not_asked",
    "10.5.4": "test_a_token_that_is_not_for_this_sign_in",
    "11.2.2": "test_rotation_puts_every_key_under_the_first test_rotated_vault_keys_open_factors_too",
    "11.3.2": "test_the_row_does_not_hold_the_key test_two_seals_of_one_key_differ",
    "11.3.3": "test_moved_to_another_row_it_does_not_open test_a_damaged_row_says_so",
    "12.3.2": "test_an_api_that_cannot_prove_who_it_is_never_sees_the_key test_no_certificate_is_taken_on_trust",
    "13.2.4": "test_what_is_not_listed_is_not_listed",
    "13.3.1": "test_no_file_holds_the_key test_no_table_holds_it",
    "13.4.2": "test_a_missing_page_explains_nothing_of_the_inside",
    "13.4.5": "test_the_health_check_says_nothing_else test_no_numbers_for_others",
    "14.2.1": "test_no_page_shows_the_key test_nothing_tells_the_key_whatever_breaks",
    "14.3.1": "test_signing_out_leaves_nothing_in_the_browser",
    "14.3.2": "test_every_answer_carries_the_headers test_no_page_poses_as_a_file_that_caches_keep",
    "14.3.3": "test_signing_out_leaves_nothing_in_the_browser",
    "15.1.2": "test_every_file_is_known_by_its_hash",
    "15.3.2": "test_an_answer_that_leads_elsewhere_is_not_followed",
    "15.3.4": "test_an_address_that_a_caller_claims_is_not_written_down",
    "16.2.5": "test_nothing_tells_the_key_whatever_breaks test_no_file_holds_the_key",
    "16.3.1": "test_sign_ins_and_sign_outs_are_audited",
    "16.3.2": "test_a_refusal_is_logged",
    "16.3.3": "test_a_refusal_is_audited_once test_e4_altered_hours_are_refused",
    "16.4.1": "test_what_was_written_elsewhere_starts_no_line_of_its_own",
    "16.4.2": "test_an_entry_can_be_neither_changed_nor_deleted test_a_changed_field_is_found",
    "16.5.1": "test_it_names_the_request_and_nothing_else",
    "16.5.2": "test_guessers_are_slowed_down_without_the_broker_too test_k17_",
    "16.5.3": "test_a_provider_that_is_away_is_a_page_and_no_crash test_nothing_is_allowed_by_a_database_that_is_away",
}
WHERE |= {f"V{number}": names for number, names in SECURITY.items()}
ELSEWHERE = {"E38": "make nemesis", "V15.2.1": "make check"}
MISSING = {}
ALL = {*(f"E{n}" for n in range(1, 39)), *(f"K{n}" for n in range(1, 20)), *(f"D{n}" for n in range(1, 23))}
# The forty rows, each with its ids.
ROWS = """
1.2.1 1.3.2 | 1.2.2 | 1.2.4 | 1.2.10 | 1.3.6 13.2.4 15.3.2 | 2.2.1 2.2.3 | 2.3.1 | 2.3.2 | 2.3.3 | 2.3.4 | 2.3.5 | 2.4.1
| 3.3.1 3.3.2 3.3.3 3.3.4 | 3.4.1 | 3.4.3 3.4.6 | 3.4.4 3.4.5 | 3.5.1 3.5.3 | 3.7.2 | 4.1.3 15.3.4 | 4.4.1 4.4.2 4.4.3
| 6.2.1 6.2.4 6.2.9 6.2.12 | 6.3.1 6.1.1 | 6.3.3 | 6.3.4 | 6.4.3 6.4.4 | 6.5.1 6.5.5
| 6.8.1 6.8.2 10.5.1 10.5.2 10.5.3 10.5.4 10.1.2 10.2.1 | 7.2.4 7.4.1 7.4.2 7.4.3 7.5.2 | 7.3.1 7.3.2 | 7.5.3
| 8.2.1 8.2.2 8.2.3 | 8.3.2 | 8.4.1 | 11.2.2 11.3.2 11.3.3 13.3.1 | 12.3.2 | 13.4.2 13.4.5 | 14.2.1 14.3.1 14.3.2 14.3.3
| 15.1.2 15.2.1 | 16.2.5 16.3.1 16.3.2 16.3.3 16.4.1 16.4.2 16.5.1 | 16.5.2 16.5.3
"""
ALL |= {f"V{number}" for number in ROWS.replace("|", " ").split()}


def test_every_requirement_has_a_test_or_is_said_to_have_none():
    assert set(WHERE) | set(ELSEWHERE) | set(MISSING) == ALL
    assert set(WHERE) & set(MISSING) == set()


def test_every_named_test_is_there():
    text = "\n".join(file.read_text() for file in TESTS.rglob("test_*.py"))
    there = re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)
    names = {name for names in WHERE.values() for name in names.split()}
    assert [name for name in names if not any(each.startswith(name) for each in there)] == []


def test_the_rows_are_forty():
    assert len(ROWS.split("|")) == 40
