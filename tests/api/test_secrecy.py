"""The key is in the header of the request, and nowhere else."""

import logging
import pickle
import traceback

import pytest

from engines.api import errors
from engines.api.client import EnginesClient
from tests.api.contract import Key
from tests.api.faults import KEY, answers, hangs_up, resets, wire

ECHO = answers(
    b'{"detail": "I do not like ' + KEY.encode() + b'", "error": {"message": "' + KEY.encode() + b'"}}', "400 No"
)


def told(error: BaseException) -> str:
    """Return everything that a log, a page or an error tracker could take from the error."""
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    return told + repr(pickle.dumps(vars(error))) + repr(locals_of(error))


def locals_of(error: BaseException) -> list[object]:
    """The variables of every frame on the way, as error trackers send them; but for the test's own."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain = [told, *filter(None, (told.__cause__, told.__context__))]
    return [frame.locals for each in chain for frame in each.stack if "/tests/" not in frame.filename]


@pytest.mark.parametrize("fault", [resets, hangs_up, ECHO, answers(KEY.encode()), answers(KEY.encode(), "500 Oops")])
def test_no_error_tells_the_key(fault: object) -> None:
    with wire(fault) as server, server.client() as client:
        with pytest.raises(errors.ApiError) as caught:
            client.get("eng_1")
        assert KEY.encode() in server.requests[0]
    assert KEY not in told(caught.value)


@pytest.mark.parametrize("where", ["SyncBackend.connect_tcp", "SyncStream.write", "SyncStream.read"])
def test_nor_does_one_that_nobody_foresaw(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A fault inside the HTTP library itself."""

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(f"httpcore._backends.sync.{where}", breaks)
    with wire(answers(b"{}")) as server, server.client() as client, pytest.raises(RuntimeError) as caught:
        client.get("eng_1")
    assert locals_of(caught.value)
    assert KEY not in told(caught.value)


def test_no_error_holds_the_request() -> None:
    with wire(hangs_up) as server, server.client() as client, pytest.raises(errors.NoAnswer) as caught:
        client.drain("eng_1")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_engine_that_repeats_the_key_does_not_get_it_stored() -> None:
    echo = answers(b'{"id": "eng_1", "name": "' + KEY.encode() + b'"}')
    with wire(echo) as server, server.client() as client:
        assert KEY not in repr(client.get("eng_1"))


def test_the_log_does_not_tell_the_key_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with wire(answers(b'{"id": "eng_1"}')) as server, server.client() as client:
        client.get("eng_1")
    assert KEY not in caplog.text


def test_the_client_does_not_print_the_key_or_the_password_in_its_address() -> None:
    with EnginesClient(base_url="http://me:hush@127.0.0.1:1", key=Key(KEY)) as client:
        assert repr(client) == "EnginesClient(http://127.0.0.1:1)"
