"""The contract suite against a stand-in that answers in each of the three formats."""

from collections.abc import Iterator

import pytest

from engines.api.client import EnginesClient
from tests.api.contract import ContractSuite, Key
from tests.api.standin import KEY, READER_KEY, Api, Fleet, engine, serving


@pytest.fixture(params=["v1", "v2", "v3"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    engines = [engine(number, "running" if number else "disconnected") for number in range(5)]
    return Fleet(request.param, {item["id"]: item for item in engines})


@pytest.fixture
def api(fleet: Fleet) -> Iterator[Api]:
    with serving(fleet) as base_url:
        yield Api(base_url, KEY, READER_KEY, running="eng_1", drainable="eng_2", offline="eng_0", total=5)


class TestOurClientWithAStandIn(ContractSuite):
    def test_drain_returns_the_engine_when_the_api_does(self, api: Api) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client:
            answer = client.drain("eng_1")
        assert answer is not None
        assert answer["status"] == "draining"

    def test_draining_twice_changes_nothing(self, api: Api) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client:
            assert client.drain("eng_1") == client.drain("eng_1")

    def test_a_task_is_read_with_its_result(self, api: Api) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client:
            assert client.task("task_1")["output"] == {"sum": 3}

    def test_it_sends_the_key_the_version_and_the_request_id(self, api: Api, fleet: Fleet) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY), request_id="req-7") as client:
            client.get("eng_1")
        headers = fleet.seen[-1][2]
        assert headers["authorization"] == f"Bearer {KEY}"
        assert (headers["x-api-version"], headers["x-request-id"]) == ("2", "req-7")

    def test_drain_is_sent_without_a_body(self, api: Api, fleet: Fleet) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client:
            client.drain("eng_1")
        assert fleet.seen[-1][3] == b""

    def test_a_search_goes_into_the_request(self, api: Api, fleet: Fleet) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client:
            client.list(limit=7, search={"term": "a", "exact": False})
        assert fleet.seen[-1][3] == b'{"search":{"term":"a","exact":false},"limit":7}'

    def test_an_id_cannot_name_another_path(self, api: Api, fleet: Fleet) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client, pytest.raises(Exception, match="404"):
            client.get("../me?x=1")
        assert fleet.seen[-1][1] == "/engines/..%2Fme%3Fx%3D1"

    def test_the_remarks_of_the_api_are_kept(self, api: Api, fleet: Fleet) -> None:
        with EnginesClient(base_url=api.base_url, key=Key(KEY)) as client:
            client.get("eng_1")
            assert client.messages == (("mind the gap",) if fleet.format == "v3" else ())
