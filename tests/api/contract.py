"""What our client expects of any Engines API. Subclasses say which one, with a fixture `api`."""

from collections.abc import Callable

import pytest

from engines.api import errors
from engines.api.client import EnginesClient
from tests.api.standin import Api


class Key:
    """A key as the vault hands it out: masked, and revealed on demand."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Key(••••)"


Open = Callable[..., EnginesClient]


class ContractSuite:
    @pytest.fixture
    def connect(self, api: Api) -> Open:
        return lambda key=None, **options: EnginesClient(
            base_url=api.base_url, key=Key(key or api.key), request_id="req-1", **options
        )

    def test_the_key_is_described_with_its_scopes(self, api: Api, connect: Open) -> None:
        with connect(api.reader_key) as client:
            assert client.me()["key"]["scopes"] == ["engines:read"]

    def test_a_page_holds_engines_with_their_status(self, api: Api, connect: Open) -> None:
        with connect() as client:
            page = client.list(limit=100)
        statuses = {item["id"]: item["status"] for item in page["items"]}
        assert statuses[api.running] == "running"
        assert len(statuses) == api.total

    def test_all_pages_together_hold_each_engine_once(self, api: Api, connect: Open) -> None:
        with connect() as client:
            uids = [item["id"] for page in client.all(limit=2) for item in page["items"]]
        assert len(uids) == len(set(uids)) == api.total

    def test_the_last_page_has_no_cursor(self, api: Api, connect: Open) -> None:
        with connect() as client:
            page = client.list(limit=100)
        assert (page["has_next"], page["next_cursor"]) == (False, None)

    def test_a_cursor_that_the_api_never_gave_is_refused(self, connect: Open) -> None:
        with connect() as client, pytest.raises(errors.Refused) as caught:
            client.list(cursor="never-given")
        assert caught.value.code == "invalid_request"

    def test_an_engine_is_read_by_its_id(self, api: Api, connect: Open) -> None:
        with connect() as client:
            assert client.get(api.running)["id"] == api.running

    def test_workers_come_as_a_list_without_gaps(self, api: Api, connect: Open) -> None:
        with connect() as client:
            workers = [client.get(item["id"])["workers"] for item in client.list()["items"]]
        assert all(isinstance(some, list) and None not in some for some in workers)

    def test_no_engine_carries_an_api_key(self, connect: Open) -> None:
        with connect() as client:
            found = [item["config"]["api_key"] for item in client.list()["items"]]
        assert set(found) == {""}

    def test_an_unknown_engine_is_gone(self, connect: Open) -> None:
        with connect() as client, pytest.raises(errors.EngineGone):
            client.get("eng_nobody")

    def test_draining_an_unknown_engine_says_that_it_is_gone(self, connect: Open) -> None:
        with connect() as client, pytest.raises(errors.EngineGone):
            client.drain("eng_nobody")

    def test_an_unknown_key_is_rejected(self, connect: Open) -> None:
        with connect("inf_unknown") as client, pytest.raises(errors.KeyRejected) as caught:
            client.list()
        assert caught.value.status == 401

    def test_a_reading_key_reads(self, api: Api, connect: Open) -> None:
        with connect(api.reader_key) as client:
            assert client.get(api.running)["status"] == "running"

    def test_a_reading_key_may_not_drain_and_hears_which_scope_it_lacks(self, api: Api, connect: Open) -> None:
        with connect(api.reader_key) as client, pytest.raises(errors.KeyRejected) as caught:
            client.drain(api.running)
        assert (caught.value.status, caught.value.code) == (403, "insufficient_scope")
        assert "engines:write" in str(caught.value)

    def test_an_offline_engine_cannot_be_drained(self, api: Api, connect: Open) -> None:
        with connect() as client, pytest.raises(errors.Refused) as caught:
            client.drain(api.offline)
        assert (caught.value.status, caught.value.code) == (409, "engine_offline")

    def test_an_unknown_task_is_refused(self, connect: Open) -> None:
        with connect() as client, pytest.raises(errors.Refused) as caught:
            client.task("task_nobody")
        assert caught.value.status == 404

    def test_an_error_names_the_request(self, connect: Open) -> None:
        with connect() as client, pytest.raises(errors.EngineGone) as caught:
            client.get("eng_nobody")
        assert caught.value.request_id == "req-1"

    @pytest.mark.parametrize("version", ["", "1", "2"])
    def test_it_reads_the_answers_to_any_version_header(self, api: Api, connect: Open, version: str) -> None:
        with connect(version=version) as client:
            assert client.get(api.running)["id"] == api.running

    @pytest.mark.parametrize("version", ["", "1", "2"])
    def test_it_reads_the_refusals_to_any_version_header(self, api: Api, connect: Open, version: str) -> None:
        with connect(version=version) as client, pytest.raises(errors.Refused) as caught:
            client.drain(api.offline)
        assert caught.value.code == "engine_offline"

    def test_an_engine_asked_to_drain_is_not_running_any_more(self, api: Api, connect: Open) -> None:
        with connect() as client:
            client.drain(api.drainable)
            assert client.get(api.drainable)["status"] in ("draining", "stopping", "stopped")
