"""What the client says when the wire misbehaves: was it provably not sent, or is that unknown?"""

import gzip
import socket
import time
import tracemalloc

import pytest

from engines.api import client as client_module
from engines.api import errors
from engines.api.client import EnginesClient
from tests.api.contract import Key
from tests.api.faults import Wire, answers, hangs_up, is_silent, never_ends, resets, stops_halfway, wire

FOUND = answers(b'{"id": "eng_1"}')


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class TestNotSent:
    def test_a_closed_port(self) -> None:
        with (
            EnginesClient(base_url=f"http://127.0.0.1:{closed_port()}", key=Key("k")) as client,
            pytest.raises(errors.NotSent, match="Nothing was sent"),
        ):
            client.drain("eng_1")

    def test_a_name_that_does_not_exist(self) -> None:
        with (
            EnginesClient(base_url="http://api.invalid", key=Key("k")) as client,
            pytest.raises(errors.NotSent),
        ):
            client.get("eng_1")

    def test_a_server_that_speaks_no_tls(self) -> None:
        with wire(hangs_up) as server:
            address = server.base_url.replace("http:", "https:")
            with EnginesClient(base_url=address, key=Key("k")) as client, pytest.raises(errors.NotSent):
                client.drain("eng_1")

    @pytest.mark.parametrize("address", ["", "no address", "ftp://127.0.0.1", "http://[::1"])
    def test_an_address_that_is_none(self, address: str) -> None:
        with pytest.raises(errors.NotSent), EnginesClient(base_url=address, key=Key("k")) as client:
            client.get("eng_1")

    def test_a_key_that_cannot_be_a_header_is_rejected_before_anything_is_sent(self) -> None:
        with (
            wire(FOUND) as server,
            EnginesClient(base_url=server.base_url, key=Key("two\nlines")) as client,
            pytest.raises(errors.KeyRejected),
        ):
            client.get("eng_1")
        assert server.requests == []

    def test_the_message_leaves_out_a_password_in_the_address(self) -> None:
        with (
            EnginesClient(base_url=f"http://me:hush@127.0.0.1:{closed_port()}", key=Key("k")) as client,
            pytest.raises(errors.NotSent) as caught,
        ):
            client.get("eng_1")
        assert "hush" not in str(caught.value)


class TestUnknown:
    @pytest.mark.parametrize("fault", [resets, hangs_up, stops_halfway])
    def test_a_connection_that_breaks_after_the_request(self, fault: object) -> None:
        with wire(fault) as server, server.client() as client, pytest.raises(errors.NoAnswer):
            client.drain("eng_1")

    def test_silence(self) -> None:
        with (
            wire(is_silent) as server,
            server.client(timeout=0.2) as client,
            pytest.raises(errors.NoAnswer, match="in time"),
        ):
            client.drain("eng_1")

    def test_an_answer_that_trickles_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.2)

        def trickles(connection: socket.socket, found: Wire) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not found.released.wait(0.02):
                connection.sendall(b" ")

        with (
            wire(trickles) as server,
            server.client() as client,
            pytest.raises(errors.NoAnswer, match="in time"),
        ):
            client.drain("eng_1")


class TestUnreadable:
    def test_a_body_of_50_megabytes_is_given_up_after_five(self) -> None:
        with (
            wire(never_ends) as server,
            server.client() as client,
            pytest.raises(errors.BadAnswer, match="5 MiB"),
        ):
            client.get("eng_1")

    def test_a_small_body_that_unpacks_to_50_megabytes(self) -> None:
        bomb = answers(gzip.compress(b" " * 50_000_000), "200 OK", "Content-Encoding: gzip")
        with (
            wire(bomb) as server,
            server.client() as client,
            pytest.raises(errors.BadAnswer, match="5 MiB"),
        ):
            client.get("eng_1")

    def test_unpacking_stops_at_the_limit_rather_than_after_it(self) -> None:
        bomb = answers(gzip.compress(b" " * 50_000_000), "200 OK", "Content-Encoding: gzip")
        with wire(bomb) as server, server.client() as client:
            tracemalloc.start()
            with pytest.raises(errors.BadAnswer):
                client.get("eng_1")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 20_000_000

    def test_a_compressed_answer_is_read(self) -> None:
        packed = answers(gzip.compress(b'{"id": "eng_1"}'), "200 OK", "Content-Encoding: gzip")
        with wire(packed) as server, server.client() as client:
            assert client.get("eng_1")["id"] == "eng_1"

    @pytest.mark.parametrize("encoding", ["gzip", "br"])
    def test_an_answer_in_a_damaged_or_unknown_encoding(self, encoding: str) -> None:
        odd = answers(b"no such thing", "200 OK", f"Content-Encoding: {encoding}")
        with wire(odd) as server, server.client() as client, pytest.raises(errors.BadAnswer):
            client.get("eng_1")

    @pytest.mark.parametrize(
        "odd", [f"X-Much: {'x' * 10_000_000}", "\r\n".join(f"X-{n}: {'x' * 1000}" for n in range(10_000))]
    )
    def test_ten_megabytes_of_headers_are_given_up_early(self, odd: str) -> None:
        much = answers(b'{"id": "eng_1"}', "200 OK", odd)
        with wire(much) as server, server.client() as client, pytest.raises(errors.NoAnswer):
            client.get("eng_1")

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
    def test_a_redirect_is_not_followed(self, status: str) -> None:
        with wire(FOUND) as elsewhere:
            away = answers(b"", status, f"Location: {elsewhere.base_url}/engines/eng_1")
            with wire(away) as server, server.client() as client, pytest.raises(errors.BadAnswer):
                client.get("eng_1")
            assert elsewhere.requests == []


def test_a_list_that_leads_in_circles_ends() -> None:
    circle = answers(b'{"items": [], "next_cursor": "again", "has_next": true}')
    with wire(circle) as server, server.client() as client, pytest.raises(errors.BadAnswer, match="twice"):
        list(client.all())


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with wire(FOUND) as server, server.client() as client:
        assert client.get("eng_1")["id"] == "eng_1"


class TestRetries:
    def test_a_read_is_tried_again_after_a_reset(self) -> None:
        with wire(resets, FOUND) as server, server.client() as client:
            assert client.get("eng_1")["id"] == "eng_1"

    @pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Unavailable", "504 Timeout"])
    def test_a_read_is_tried_again_when_a_gateway_fails(self, status: str) -> None:
        with wire(answers(b"", status), answers(b"", status), FOUND) as server, server.client() as client:
            assert client.get("eng_1")["id"] == "eng_1"

    def test_a_read_is_given_up_after_two_more_tries(self) -> None:
        with (
            wire(answers(b"", "503 Unavailable")) as server,
            server.client() as client,
            pytest.raises(errors.ApiBusy),
        ):
            client.list()
        assert len(server.requests) == 3

    def test_a_read_that_timed_out_is_not_tried_again(self) -> None:
        with (
            wire(is_silent) as server,
            server.client(timeout=0.1) as client,
            pytest.raises(errors.NoAnswer),
        ):
            client.get("eng_1")
        assert len(server.requests) == 1

    def test_a_long_pause_that_the_api_asks_for_is_left_to_the_caller(self) -> None:
        with (
            wire(answers(b"", "503 Unavailable", "Retry-After: 60")) as server,
            server.client() as client,
            pytest.raises(errors.ApiBusy) as caught,
        ):
            client.get("eng_1")
        assert (caught.value.retry_after, len(server.requests)) == (60, 1)

    @pytest.mark.parametrize("status", ["429 Slow down", "500 Oops", "400 No"])
    def test_other_failures_are_not_tried_again(self, status: str) -> None:
        with (
            wire(answers(b"", status)) as server,
            server.client() as client,
            pytest.raises(errors.ApiError),
        ):
            client.get("eng_1")
        assert len(server.requests) == 1

    @pytest.mark.parametrize("fault", [resets, hangs_up, stops_halfway, answers(b"", "503 Unavailable")])
    def test_drain_is_sent_once_if_it_may_have_arrived(self, fault: object) -> None:
        with wire(fault) as server, server.client() as client:
            with pytest.raises(errors.ApiError):
                client.drain("eng_1")
            assert len(server.requests) == 1

    def test_drain_is_tried_again_while_nobody_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("engines.api.client.PAUSE", (0.05, 0.05))
        begun = time.monotonic()
        with (
            EnginesClient(base_url=f"http://127.0.0.1:{closed_port()}", key=Key("k")) as client,
            pytest.raises(errors.NotSent),
        ):
            client.drain("eng_1")
        assert time.monotonic() - begun > 0.05 + 0.1  # a pause, and one of twice its length
