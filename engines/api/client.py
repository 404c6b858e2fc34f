"""The httpx client of the Engines API: one connection's address, one person's key. No ORM, no Django.

It speaks to the hosted API and to our own alike, and is the only place that meets the wire.
"""

import builtins
import random
import re
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from decimal import Decimal
from functools import cache
from ssl import SSLContext
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import httpx

from engines import wire
from engines.api import decode
from engines.api.errors import ApiBusy, ApiError, BadAnswer, EngineGone, KeyRejected, NoAnswer, NotSent, Refused
from engines.api.pinned import Address, Pinned
from engines.api.redact import redact, storable

BODY_LIMIT = 5 * 1024 * 1024  # bytes, after decompression
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 30.0  # for a whole answer, however steadily it trickles
RETRIES = 2
PAUSE = (0.05, 0.25)  # seconds before the first of them, at random between these; twice as long before the second
MOST_PAGES = 1000
KEYS = "/apikeys"
PAYING = ("create", "refund")  # entries of the API's books that are about a creation
SHELL_SAFE = re.compile(r"[A-Za-z0-9._~+/=:-]{8,500}")  # a new key is pasted into a command
PATIENCE = 2.0  # seconds that an API may ask a retry to wait

# Raised before the first byte of the request leaves; after any other error it may have arrived.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Key(Protocol):
    def reveal(self) -> str: ...


class Bearer(httpx.Auth):
    """Holds the key masked, and reveals it into the header and nowhere else."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request

    def is_sendable(self) -> bool:
        key = self._key.reveal()
        return key.isascii() and key.isprintable() and " " not in key and key != ""

    def scrub(self, body: bytes) -> bytes:
        """Return the body without the key: an API that repeats it must not get it stored."""
        return body.replace(self._key.reveal().encode(), b"****")


class MadeKey:
    """A key that the API has just made. It prints as dots; `reveal()` is easy to grep for."""

    __slots__ = ("_text", "id")

    def __init__(self, id: str, text: str) -> None:
        self.id = id
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"MadeKey({self.id}, ••••)"


class EnginesClient:
    """Calls one Engines API. Reads are retried twice, with jitter; drain only if provably nothing was sent.

    `timeout` is in seconds, for each wait on the network. Every method raises ApiError (see errors.py).
    `version` is the X-API-Version header; "" leaves it out. `may_reach` says which machines the address may lead to,
    however its name is looked up; without it, all. `messages` are the API's remarks on the last answer, and `ahead` is
    by how many seconds its clock was then ahead of the host's; None if it does not say. `requests` were made so far.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key: Key,
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        may_reach: Callable[[Address], bool] | None = None,
        request_id: str = "",
        version: str = "2",
    ) -> None:
        verify = _ssl_context() if base_url.startswith("https:") else False
        if may_reach is not None:
            transport = Pinned(may_reach, verify)
        self._bearer = Bearer(key)
        self._request_id = request_id
        self._timeout = timeout
        self.messages: tuple[str, ...] = ()
        self.ahead: float | None = None
        self.requests = 0
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "engines-portal"}
        headers |= {"X-API-Version": version} if version else {}
        headers |= {"X-Request-ID": request_id} if request_id else {}
        try:
            self._http = httpx.Client(
                base_url=base_url,
                auth=self._bearer,
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
                transport=transport,
                verify=verify,
                trust_env=False,
                follow_redirects=False,
            )
        except httpx.InvalidURL:
            raise NotSent("The address of the Engines API is not a valid address. Nothing was sent.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EnginesClient({self._where()})"

    def close(self) -> None:
        self._http.close()

    def me(self) -> dict[str, Any]:
        """Return what the API says of the key's owner, and of the key."""
        return decode.record(redact(self._read("GET", "/me")), "a description of the key")

    def list(self, cursor: str = "", limit: int = 100, **query: Any) -> wire.EnginePage:
        """Return one page of engines. `query` holds further members of the contract's CursorListRequest."""
        asked = query | {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return decode.page(self._read("POST", "/engines/list", json=asked))

    def all(self, limit: int = 100, **query: Any) -> Iterator[wire.EnginePage]:
        """Go through all pages. Raises BadAnswer if the API sends us in circles."""
        cursor, seen = "", {""}
        while len(seen) <= MOST_PAGES:
            page = self.list(cursor, limit, **query)
            yield page
            cursor = page["next_cursor"] or ""
            if not cursor:
                return
            if cursor in seen:
                raise BadAnswer("The Engines API gave the same page cursor twice; its list has no end.", status=200)
            seen.add(cursor)
        raise BadAnswer(f"The Engines API's list has more than {MOST_PAGES} pages; it may have no end.", status=200)

    def get(self, uid: str) -> wire.Engine:
        """Return the engine as the API sees it now."""
        return decode.engine(self._read("GET", _path(uid), engine=True), uid)

    def drain(self, uid: str) -> wire.Engine | None:
        """Ask the engine to finish what it runs and to take nothing new. Returns once the API has accepted that.

        Draining itself takes as long as the tasks do: watch the engine's status. None if the API answers nothing.
        """
        return self._ask(uid, "drain")

    def update(self, uid: str, version: str = "") -> wire.Engine | None:
        """Ask the engine to become another version: "stable", "canary" or a tag. Returns once that is accepted."""
        # Without a version no body is sent: older APIs know none (contract section 9, row 6).
        return self._ask(uid, "update", {"version": version} if version not in ("", "stable") else None)

    def stop(self, uid: str, *, only_if_connected: bool = False) -> wire.Engine | None:
        """Ask the engine to finish what it runs and end. One that is offline is stopped at once.

        `only_if_connected` has one that went offline since left alone, by an API that knows this: Refused.
        """
        return self._ask(uid, "stop", headers={wire.ONLY_IF_CONNECTED: "true"} if only_if_connected else None)

    def rename(self, uid: str, name: str) -> wire.Engine | None:
        """Give the engine another name."""
        body = {"name": name}
        return self._engine(uid, self._retried(lambda: self._call("POST", _path(uid), engine=True, json=body), _unsent))

    def delete(self, uid: str) -> None:
        """Have the API forget the engine. One that it does not know any more is no error."""
        with suppress(EngineGone):
            self._retried(lambda: self._call("DELETE", _path(uid), engine=True), _unsent)

    def revoke_key(self, uid: str) -> None:
        """Have the API take a key no more. Raises Refused (404) if it knows no such key."""
        self._retried(lambda: self._call("DELETE", f"{KEYS}/{_segment(uid)}"), _unsent)

    def restart(self, uid: str, *, only_if_connected: bool = False) -> wire.Engine | None:
        """Have the engine's machine restarted. Sent once: not repeated even where nothing reached the API.

        `only_if_connected`: as for `stop`.
        """
        headers = {wire.ONLY_IF_CONNECTED: "true"} if only_if_connected else None
        return self._engine(uid, self._call("POST", f"{_path(uid)}/restart", engine=True, headers=headers))

    def _ask(
        self, uid: str, verb: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> wire.Engine | None:
        path = f"{_path(uid)}/{verb}"
        answer = self._retried(lambda: self._call("POST", path, engine=True, json=body, headers=headers), _unsent)
        return self._engine(uid, answer)

    def _engine(self, uid: str, answer: Any) -> wire.Engine | None:
        return decode.engine(answer, uid) if isinstance(answer, dict) and "id" in answer else None

    def extend(self, uid: str, hours: Decimal, before_send: Callable[[], None]) -> wire.Engine:
        """Buy so many hours for a cloud engine, once: no retry, no redirect. Returns the engine with its new deadline.

        Call it first of all on a client of its own: the connection is new then, and `before_send` runs when it is
        open and no byte of the request has left. What that raises is raised here, and nothing is sent.
        """
        body, trace = {"additional_hours": float(hours)}, _tracing(before_send)
        answer = self._call("POST", f"{_path(uid)}/extend", engine=True, json=body, extensions=trace)
        return decode.engine(answer, uid)

    def create(self, asked: dict[str, Any], once: str, before_send: Callable[[], None]) -> wire.Engine:
        """Rent a machine with an engine on it, once, as `extend` buys hours. Returns the engine, which is on its way.

        An API that knows Idempotency-Key creates one for each `once`.
        """
        facts: dict[str, Any] = {"headers": {"Idempotency-Key": once}, "extensions": _tracing(before_send)}
        return decode.engine(self._call("POST", "/engines", json=asked, **facts))

    def named(self, name: str) -> builtins.list[wire.Engine]:
        """Return the engines of exactly this name."""
        return [engine for page in self.all() for engine in page["items"] if engine.get("name") == name]

    def instance_types(self) -> builtins.list[Any]:
        """Return the machines that can be rented, as the API lists them (contract 3.7)."""
        found = self._read("GET", "/instances/types")
        if not isinstance(found, builtins.list):
            raise BadAnswer("The Engines API answered with something that is not a list of machines.", status=200)
        return found

    def paid(self, uid: str, name: str) -> int | None:
        """Return what the API's own books say was paid to create the engine, less what was given back, in microcents.

        It is looked up by its id, or by its name where that is "". None from an API without books, or if the key
        may not read them.
        """
        asked = (
            {"filters": [{"field": "engine_id", "operator": "eq", "value": uid}]} if uid else {"search": {"term": name}}
        )
        try:
            found = decode.record(
                self._read("POST", "/billing/transactions/list", json={**asked, "limit": 100}), "a list"
            )
        except (KeyRejected, Refused, EngineGone):
            return None
        amounts = [row.get("amount") for row in decode.items_of(found.get("items")) if row.get("kind") in PAYING]
        if not all(isinstance(amount, int) for amount in amounts):
            return None
        return -int(sum(amounts))

    def balance(self) -> int | None:
        """Return what can still be spent, in microcents; None from an API that does not say."""
        found = decode.record(self._call("GET", "/billing/balance"), "a balance")
        values = [found.get("balance"), found.get("held", 0)]
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            return None
        return int(values[0]) - int(values[1])

    def releases(self) -> dict[str, str]:
        """Return the newest version of each channel that engines can be updated to: {"stable": "v1.4.0", …}."""
        found = decode.record(self._call("GET", "/engines/releases"), "a list of releases")
        heads = {channel: head.get("version") for channel, head in found.items() if isinstance(head, dict)}
        return {channel: version for channel, version in heads.items() if isinstance(version, str)}

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the newest stable engine (contract 7.6), from an API that hands out engines."""
        return decode.record(self._call("GET", "/dist/engine/manifest.json"), "a manifest")

    def make_key(self, name: str, scopes: Sequence[str], once: str) -> MadeKey:
        """Have the API make a key with these scopes, and return it: its text is in this answer and nowhere else.

        An API that knows Idempotency-Key makes one key for each `once`.
        """
        body = {"name": name, "scopes": scopes}
        found = decode.record(self._call("POST", KEYS, json=body, headers={"Idempotency-Key": once}), "a key")
        text = found.get("key")
        if not isinstance(text, str) or not SHELL_SAFE.fullmatch(text):
            raise BadAnswer("The Engines API answered with something that is not a key.", status=200)
        return MadeKey(storable(str(found.get("id") or "")), text)

    def task(self, uid: str) -> dict[str, Any]:
        """Return the task, its result included once it has one."""
        return decode.record(self._read("GET", f"/tasks/{_segment(uid)}"), "a task")

    def _read(self, method: str, path: str, *, engine: bool = False, json: Any = None) -> Any:
        return self._retried(lambda: self._call(method, path, engine=engine, json=json), _readable_again)

    def _retried(self, call: Callable[[], Any], again: Callable[[ApiError], bool]) -> Any:
        begun = time.monotonic()
        for attempt in range(RETRIES):
            try:
                return call()
            except ApiError as error:
                if not again(error) or time.monotonic() - begun > self._timeout:
                    raise
                wait = error.retry_after or 0.0
            time.sleep(wait + random.uniform(*PAUSE) * 2**attempt)  # noqa: S311 (spreads load, guards nothing)
        return call()

    def _call(
        self,
        method: str,
        path: str,
        *,
        engine: bool = False,
        json: Any = None,
        headers: dict[str, str] | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> Any:
        if not self._bearer.is_sendable():
            raise KeyRejected("The key has characters that no key has. Enter it again on the Keys page.")
        request = self._http.build_request(method, path, json=json, headers=headers, extensions=extensions)
        reply = self._exchange(request, engine)
        self.ahead = decode.ahead(reply.headers)
        try:
            answer = decode.decode(reply)
        except ApiError as error:
            error.request_id = error.request_id or self._request_id
            raise
        self.messages = answer.messages
        return answer.data

    def _exchange(self, request: httpx.Request, engine: bool) -> decode.Reply:
        self.requests += 1
        try:
            response = self._http.send(request, stream=True)
            with closing(response):
                body = self._bearer.scrub(_body(response))
            return decode.Reply(response.status_code, response.headers, body, engine)
        except httpx.TransportError as error:
            failure = self._unanswered(error)
        except Exception as error:
            # Whatever it is, it leaves the frames behind in which the key was written to the wire.
            raise error.with_traceback(None) from None
        # Raised out here, the error does not carry httpx's own along: that one holds the request, key included.
        raise failure

    def _unanswered(self, error: httpx.TransportError) -> ApiError:
        where, why = self._where(), str(error) or type(error).__name__
        if isinstance(error, NOT_SENT):
            return NotSent(
                f"The Engines API at {where} could not be reached ({why}). Nothing was sent.",
                request_id=self._request_id,
            )
        if isinstance(error, httpx.TimeoutException):
            words = f"The Engines API at {where} did not answer in time."
        else:
            words = f"The connection to the Engines API at {where} broke before it answered."
        code = "timeout" if isinstance(error, httpx.TimeoutException) else ""
        return NoAnswer(words, code=code, request_id=self._request_id)

    def _where(self) -> str:
        """Return the address without anybody's name or password in it."""
        url = self._http.base_url
        return f"{url.scheme}://{url.netloc.decode()}"


def _tracing(before_send: Callable[[], None]) -> dict[str, Any]:
    """Return the extensions of a request that call it once, when the connection is open and no byte has left."""
    armed: list[bool] = []

    def trace(event: str, _: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started" and not armed:
            armed.append(True)
            before_send()

    return {"trace": trace}


@cache
def _ssl_context() -> SSLContext:
    """Made once a process: it takes some 25 ms, as long as many a call."""
    return httpx.create_ssl_context()


def _body(response: httpx.Response) -> bytes:
    """Read the answer, decompressed. Raises BadAnswer as soon as it is too long, NoAnswer when it takes too long."""
    deadline = time.monotonic() + ANSWER_SECONDS
    inflate = _inflater(response.headers.get("content-encoding", ""))
    body = bytearray()
    for chunk in response.iter_raw():
        body += inflate(chunk, BODY_LIMIT + 1 - len(body))
        if len(body) > BODY_LIMIT:
            raise BadAnswer("The Engines API's answer is longer than 5 MiB.", status=response.status_code)
        if time.monotonic() > deadline:
            raise NoAnswer("The Engines API did not finish its answer in time.", code="timeout")
    return bytes(body)


def _inflater(encoding: str) -> Callable[[bytes, int], bytes]:
    """Return what turns a piece of the answer into at most so many bytes of text: a small bomb stays small."""
    if encoding in ("", "identity"):
        return lambda chunk, room: chunk[:room]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BadAnswer(f"The Engines API answered in an encoding that was not asked for ({encoding[:20]}).")
    stream = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it begins with

    def inflate(chunk: bytes, room: int) -> bytes:
        try:
            return stream.decompress(chunk, room)
        except zlib.error:
            raise BadAnswer("The Engines API's answer is damaged (gzip).") from None

    return inflate


def _path(uid: str) -> str:
    return f"/engines/{_segment(uid)}"


def _segment(uid: str) -> str:
    """Return an id as one path segment. Raises EngineGone for one that would name another path."""
    if uid in ("", ".", ".."):
        raise EngineGone("No engine has such an id.", status=404)
    return quote(uid, safe="")


def _unsent(error: ApiError) -> bool:
    return isinstance(error, NotSent)


def _readable_again(error: ApiError) -> bool:
    match error:
        case NotSent():
            return True
        case NoAnswer():
            return error.code != "timeout"  # waiting as long again helps nobody
        case ApiBusy(status=502 | 503 | 504):
            return (error.retry_after or 0.0) <= PATIENCE
    return False
