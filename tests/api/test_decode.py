"""Three formats of success, two of failure, and what a careless or hostile API makes of them."""

import json
from email.utils import formatdate
from typing import Any

import pytest

from engines.api import decode, errors
from engines.api.decode import Reply


def reply(body: Any, status: int = 200, *, engine: bool = False, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content, engine)


def problem(code: str, detail: str = "", **members: Any) -> dict[str, Any]:
    return {"type": f"https://api.inference.sh/errors/{code}", "title": "T", "detail": detail, **members}


def failure(body: Any, status: int, *, engine: bool = False, **headers: str) -> errors.ApiError:
    with pytest.raises(errors.ApiError) as caught:
        decode.decode(reply(body, status, engine=engine, **headers))
    return caught.value


class TestSuccess:
    @pytest.mark.parametrize(
        "body",
        [
            {"id": "e"},
            {"success": True, "status": 200, "data": {"id": "e"}},
            {"data": {"id": "e"}},
            {"data": {"id": "e"}, "messages": None},
            {"success": True, "status": 200, "data": {"id": "e"}, "messages": []},
        ],
    )
    def test_any_format_gives_the_object(self, body: Any) -> None:
        assert decode.decode(reply(body)).data == {"id": "e"}

    def test_an_object_with_data_and_more_is_the_object_itself(self) -> None:
        assert decode.decode(reply({"data": 1, "id": "e"})).data == {"data": 1, "id": "e"}

    def test_success_that_is_no_boolean_is_a_member_like_any_other(self) -> None:
        assert decode.decode(reply({"success": "yes", "id": "e"})).data == {"success": "yes", "id": "e"}

    def test_v1_without_data_is_nothing(self) -> None:
        assert decode.decode(reply({"success": True, "status": 200})).data is None

    @pytest.mark.parametrize(("body", "status"), [(b"", 200), (b" \n", 202), (b"gone", 204)])
    def test_no_content_is_nothing(self, body: bytes, status: int) -> None:
        assert decode.decode(reply(body, status)).data is None

    def test_an_array_is_itself(self) -> None:
        assert decode.decode(reply([1, None])).data == [1, None]

    @pytest.mark.parametrize("body", [b"<html>", b"{", b"\xff\xfe\x00", b'{"id": NaN}', b"[1e400]", b"[" * 100_000])
    def test_what_is_not_json_is_a_bad_answer(self, body: bytes) -> None:
        with pytest.raises(errors.BadAnswer):
            decode.decode(reply(body))

    def test_what_a_database_cannot_hold_is_dropped(self) -> None:
        assert decode.decode(reply(b'{"id": "a\\u0000b\\ud800c"}')).data == {"id": "ab?c"}


class TestFailure:
    def test_success_false_is_an_error_on_200_too(self) -> None:
        error = failure({"success": False, "status": 409, "error": {"code": "conflict", "message": "no"}}, 200)
        assert isinstance(error, errors.Refused)
        assert (error.status, error.code) == (409, "conflict")

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            (problem("extend_failed", "Not active."), "extend_failed", "Not active"),
            ({"type": "about:blank", "title": "Bad Request"}, "", "Bad Request"),
            ({"success": False, "error": {"code": "conflict", "message": "Busy"}}, "conflict", "Busy"),
            ({"error": {"code": "conflict", "message": "Busy"}}, "conflict", "Busy"),
            ({"error": "just words"}, "", "just words"),
            ({"message": "m"}, "", "m"),
            ([1], "", "no reason"),
            (b"<html>nginx</html>", "", "no reason"),
        ],
    )
    def test_code_and_words_are_found_in_each_format(self, body: Any, code: str, words: str) -> None:
        error = failure(body, 400)
        assert error.code == code
        assert words in str(error)

    def test_unmet_requirements_are_all_named(self) -> None:
        error = failure({"satisfied": False, "errors": [{"message": "no GPU"}, {"message": "no disk"}]}, 412)
        assert "no GPU; no disk" in str(error)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_rejected_key_sends_people_to_the_keys_page(self, status: int) -> None:
        error = failure(problem("whatever"), status)
        assert isinstance(error, errors.KeyRejected)
        assert "Keys page" in str(error)

    def test_a_missing_scope_is_named_and_kept(self) -> None:
        error = failure(problem("insufficient_scope", meta={"required_scope": "engines:write"}), 403)
        assert "engines:write" in str(error)
        assert error.meta == {"required_scope": "engines:write"}

    def test_404_for_an_engine_means_gone(self) -> None:
        assert isinstance(failure(problem("not_found"), 404, engine=True), errors.EngineGone)

    def test_404_from_a_server_in_between_does_not(self) -> None:
        assert isinstance(failure(b"404 page not found", 404, engine=True), errors.BadAnswer)

    def test_404_for_anything_else_is_a_refusal(self) -> None:
        assert isinstance(failure(problem("not_found"), 404), errors.Refused)

    def test_408_says_nothing_of_what_was_done(self) -> None:
        assert isinstance(failure(b"", 408), errors.NoAnswer)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_busy_api_is_asked_later(self, status: int) -> None:
        assert isinstance(failure(b"", status), errors.ApiBusy)

    def test_the_request_id_is_kept(self) -> None:
        assert failure(b"", 500, x_request_id="r-1").request_id == "r-1"

    def test_the_raw_answer_is_redacted_and_cut(self) -> None:
        error = failure({"config": {"api_key": "hush"}, "detail": "x" * 9000}, 400)
        assert "hush" not in error.raw
        assert len(error.raw) == 2000


class TestRetryAfter:
    def test_seconds(self) -> None:
        assert decode.retry_after({"retry-after": "7"}) == 7

    def test_a_date_is_read_against_the_servers_own_clock(self) -> None:
        headers = {"date": formatdate(1_000_000, usegmt=True), "retry-after": formatdate(1_000_030, usegmt=True)}
        assert decode.retry_after(headers) == 30

    def test_the_reset_of_the_rate_limit_is_the_second_choice(self) -> None:
        headers = {"date": formatdate(1_000_000, usegmt=True), "x-ratelimit-reset": "1000005"}
        assert decode.retry_after(headers) == 5

    @pytest.mark.parametrize(("given", "read"), [("86400", 300), ("-3", None), ("soon", None), ("", None)])
    def test_the_absurd_is_bounded_or_ignored(self, given: str, read: float | None) -> None:
        assert decode.retry_after({"retry-after": given}) == read

    def test_a_date_in_the_past_is_now(self) -> None:
        assert decode.retry_after({"retry-after": formatdate(0, usegmt=True)}) == 0


class TestEngine:
    def test_null_lists_are_empty_and_null_workers_skipped(self) -> None:
        found = decode.engine({"id": "e", "workers": [None, {"id": "w", "gpus": None}], "capabilities": None})
        assert found["workers"] == [{"id": "w", "gpus": [], "cpus": [], "rams": []}]

    def test_an_unknown_status_and_unknown_members_pass(self) -> None:
        found = decode.engine({"id": "e", "status": "hibernating", "new": {"x": 1}})
        assert found["status"] == "hibernating"
        assert found["new"] == {"x": 1}

    @pytest.mark.parametrize("data", [None, [], "e", {}, {"id": 7}, {"id": ""}])
    def test_what_has_no_id_is_no_engine(self, data: Any) -> None:
        with pytest.raises(errors.BadAnswer):
            decode.engine(data)

    def test_one_that_is_nested_beyond_reason_is_a_bad_answer(self) -> None:
        deep: dict[str, Any] = {}
        for _ in range(2000):
            deep = {"x": deep}
        with pytest.raises(errors.BadAnswer):
            decode.engine({"id": "e", "deep": deep})

    def test_another_engine_is_not_taken_for_the_one_asked_for(self) -> None:
        with pytest.raises(errors.BadAnswer):
            decode.engine({"id": "other"}, "e")


class TestPage:
    @pytest.mark.parametrize("data", [{"items": None}, {}, []])
    def test_no_items_is_an_empty_page(self, data: Any) -> None:
        assert decode.page(data)["items"] == []

    @pytest.mark.parametrize(
        ("members", "cursor"),
        [
            ({"next_cursor": "c", "has_next": True}, "c"),
            ({"next_cursor": "c"}, "c"),
            ({"next_cursor": "c", "has_next": False}, None),
            ({"next_cursor": "", "has_next": True}, None),
            ({"next_cursor": None, "has_next": True}, None),
        ],
    )
    def test_the_list_ends_without_a_cursor_or_without_a_next_page(self, members: Any, cursor: str | None) -> None:
        assert decode.page({"items": [], **members})["next_cursor"] == cursor

    @pytest.mark.parametrize("data", [None, "x", {"items": {}}, {"items": ["x"]}])
    def test_what_is_no_list_of_engines_is_a_bad_answer(self, data: Any) -> None:
        with pytest.raises(errors.BadAnswer):
            decode.page(data)


class TestOddMembers:
    @pytest.mark.parametrize("uid", ["a/b", "a b", "..", "x" * 65, "eng_1,live-poll", 7, ""])
    def test_an_id_that_no_address_can_carry_is_no_engine(self, uid: Any) -> None:
        with pytest.raises(errors.BadAnswer):
            decode.engine({"id": uid})

    @pytest.mark.parametrize("odd", [7, "x", [], [7], ["x"], [[]], True, {}, {"cpus": 7, "ram": "8 GB", "gpus": ["x"]}])
    def test_a_member_of_another_type_than_the_contract_says_is_read_as_missing(self, odd: Any) -> None:
        worker = {"status": odd, "index": odd, "task_id": odd, "gpus": [{"name": odd, "vram": odd}], "cpus": odd}
        named = dict.fromkeys(["name", "status", "engine_version", "created_at", "system_info", "instance"], odd)
        found = decode.engine({"id": "e", "workers": [worker, odd], **named})
        for name in ("name", "status", "engine_version", "created_at"):
            assert found[name] is None or isinstance(found[name], str)  # type: ignore[literal-required]
        for name in ("system_info", "instance"):
            assert found[name] is None or isinstance(found[name], dict)  # type: ignore[literal-required]
