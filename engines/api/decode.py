"""From bytes to the contract's objects: three success formats, two error formats (ENGINES_API.md 1.5 and 5)."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from engines import wire
from engines.api.errors import ApiBusy, ApiError, BadAnswer, EngineGone, KeyRejected, NoAnswer, Refused
from engines.api.redact import mask, raw_for_people, redact, storable
from engines.api.shapes import ENGINE, SANE_ID, fitted

LONGEST_WAIT = 300.0  # seconds; an API that asks for more is asked again all the same
HUGE = re.compile(rb"[eE]\+?\d{3}|\d{300}")  # may be a number that is read as infinity, which no database stores
DETAIL_LIMIT = 300  # characters of the API's own words inside ours


@dataclass(frozen=True)
class Reply:
    """An answer as it came: `headers` are looked up in any case, `engine` says that the path names an engine."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    engine: bool = False


@dataclass(frozen=True)
class Answer:
    """A success: the object, and what the API wants people to know beside it."""

    data: Any
    messages: tuple[str, ...] = ()


def decode(reply: Reply) -> Answer:
    """Return what the answer carries, whichever of the three formats it is in. Raises ApiError."""
    if 300 <= reply.status < 400:
        _bad(reply, "sent us to another address. Redirects are never followed: enter the API's own address")
    if reply.status >= 400:
        raise failure(reply)
    if reply.status == 204 or not reply.body.strip():
        return Answer(None)
    try:
        document = _load(reply.body)
    except (ValueError, RecursionError):
        _bad(reply, "answered with something that is not JSON. Check that its address is right")
    return _success(reply, document)


def _load(body: bytes) -> Any:
    """Return the JSON document, fit to be stored. Raises ValueError, on the numbers that JSON does not have too."""
    document = json.loads(body, parse_constant=_no_number, parse_float=_finite if HUGE.search(body) else None)
    # Only escapes can bring in what a database refuses, so most bodies need not be walked.
    if b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body:
        document = _storable(document)
    return document


def _finite(number: str) -> float:
    return float(number) if math.isfinite(float(number)) else _no_number(number)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return storable(value) if isinstance(value, str) else value


def _success(reply: Reply, document: Any) -> Answer:
    if not isinstance(document, dict):
        return Answer(document)
    if isinstance(document.get("success"), bool):
        if not document["success"]:
            raise failure(reply)
        return Answer(document.get("data"), _messages(document))
    if "data" in document and document.keys() <= {"data", "messages"}:
        return Answer(document["data"], _messages(document))
    return Answer(document)


def _messages(document: dict[str, Any]) -> tuple[str, ...]:
    found = [item for item in items_of(document.get("messages")) if isinstance(item, dict)]
    return tuple(mask(str(item.get("message") or item.get("code") or ""))[:DETAIL_LIMIT] for item in found)


def failure(reply: Reply) -> ApiError:
    """Return the error that the answer stands for. v1 says `success: false` on a 2xx too: its own status counts."""
    text = reply.body.decode(errors="replace")
    try:
        document = _load(reply.body)
    except (ValueError, RecursionError):
        document = None
    facts: dict[str, Any] = {
        "status": reply.status,
        "code": _code(document),
        "meta": _meta(document),
        "request_id": reply.headers.get("x-request-id", ""),
        "raw": raw_for_people(text),
    }
    if reply.status < 400 and isinstance(document, dict) and isinstance(document.get("status"), int):
        facts["status"] = document["status"]
    return _kind(reply, facts, _detail(document), known=not text.strip() or isinstance(document, dict))


def _kind(reply: Reply, facts: dict[str, Any], detail: str, *, known: bool) -> ApiError:
    match facts["status"]:
        case 401:
            return KeyRejected(
                "The Engines API refused this key (401). Enter another key on the Keys page.",
                **facts,
            )
        case 403:
            return KeyRejected(_forbidden(facts, detail), **facts)
        case 404 if reply.engine and known:
            return EngineGone("The Engines API does not know this engine (404). It may have been deleted.", **facts)
        case 404 if not known:  # some server in between: nothing is said about the engine
            return BadAnswer("This address does not answer like an Engines API (404). Check it.", **facts)
        case 408:
            return NoAnswer("The Engines API gave up waiting for our request (408).", **facts)
        case 429:
            wait = retry_after(reply.headers)
            return ApiBusy(f"The Engines API asks us to slow down (429). {later(wait)}", retry_after=wait, **facts)
        case status if status >= 500:
            wait = retry_after(reply.headers)
            said = f": {detail}" if detail else ""
            return ApiBusy(f"The Engines API has trouble ({status}){said}. {later(wait)}", retry_after=wait, **facts)
    named = ", ".join(filter(None, [str(facts["status"]), facts["code"]]))
    return Refused(f"The Engines API refused the request ({named}): {detail or 'it gave no reason'}.", **facts)


def _forbidden(facts: dict[str, Any], detail: str) -> str:
    if scope := facts["meta"].get("required_scope"):
        return f"This key lacks the scope {str(scope)[:60]} (403). Enter a key that has it on the Keys page."
    said = f": {detail}" if detail else ""
    return f"The Engines API does not let this key do that (403){said}. Enter another key on the Keys page."


def later(wait: float | None) -> str:
    return f"Try again in {max(1, round(wait))} s." if wait is not None else "Try again later."


def _code(document: Any) -> str:
    if not isinstance(document, dict):
        return ""
    _, found, code = str(document.get("type") or "").rpartition("/errors/")
    if found and code:
        return code[:100]
    inner = document.get("error")
    return str(inner.get("code") or "")[:100] if isinstance(inner, dict) else ""


def _meta(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        return {}
    inner = document.get("error")
    meta = document.get("meta") or (inner.get("meta") if isinstance(inner, dict) else None)
    return redact(meta) if isinstance(meta, dict) else {}


def _detail(document: Any) -> str:
    """Return the API's own words, on one line, without a final stop. A page of HTML is nobody's words."""
    words = "" if not isinstance(document, dict) else _words(document)
    return " ".join(mask(words).split())[:DETAIL_LIMIT].rstrip(". ")


def _words(document: dict[str, Any]) -> str:
    inner = document.get("error")
    unmet = [item for item in items_of(document.get("errors")) if isinstance(item, dict)]  # 412
    candidates = [
        "; ".join(str(item["message"]) for item in unmet if item.get("message")),
        document.get("detail"),
        document.get("title"),
        document.get("message"),
        inner.get("message") if isinstance(inner, dict) else inner,
    ]
    return next((str(words) for words in candidates if words), "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the API asks us to wait, at most LONGEST_WAIT; None if it does not say."""
    date = _moment(headers.get("date", ""))  # their clock, as the other two are theirs
    now = time.time() if date is None else date
    given = headers.get("retry-after", "").strip()
    reset = headers.get("x-ratelimit-reset", "").strip()
    if given.isdecimal():
        wait = float(given)
    elif (moment := _moment(given)) is not None:
        wait = moment - now
    elif reset.isdecimal():
        wait = float(reset) - now
    else:
        return None
    return min(max(wait, 0.0), LONGEST_WAIT)


def ahead(headers: Mapping[str, str]) -> float | None:
    """Return by how many seconds their clock is ahead of this host's; None if they do not say what it shows."""
    date = _moment(headers.get("date", ""))
    return None if date is None else date - time.time()


def _moment(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def items_of(value: Any) -> list[Any]:
    """Return a list as it should have come: Go writes an empty one as null, and null items into others."""
    return [item for item in value if item is not None] if isinstance(value, list) else []


def engine(data: Any, uid: str = "") -> wire.Engine:
    """Return the engine, redacted, its lists whole. Raises BadAnswer if it is none, or not the one asked for."""
    if not isinstance(data, dict) or not isinstance(data.get("id"), str) or not SANE_ID.fullmatch(data["id"]):
        raise BadAnswer("The Engines API answered with something that is not an engine.", status=200)
    if uid and data["id"] != uid:
        raise BadAnswer("The Engines API answered with another engine than the one asked for.", status=200)
    try:
        found: wire.Engine = redact(fitted(data, ENGINE))
    except RecursionError:
        raise BadAnswer("The Engines API answered with an engine that is nested beyond reason.", status=200) from None
    return found


def _engine_or_none(item: Any) -> wire.Engine | None:
    try:
        return engine(item)
    except BadAnswer:  # one that nobody can name does not hide the others
        return None


def page(data: Any) -> wire.EnginePage:
    """Return the page. It is the last one if `has_next` is false or the cursor empty. Raises BadAnswer."""
    if isinstance(data, list):
        data = {"items": data}
    if not isinstance(data, dict) or not isinstance(data.get("items", []), list | None):
        raise BadAnswer("The Engines API answered with something that is not a list of engines.", status=200)
    cursor = str(data.get("next_cursor") or "")
    more = bool(cursor) and data.get("has_next", True) is not False
    given = items_of(data.get("items"))
    items = [found for item in given if (found := _engine_or_none(item))]
    if given and not items:
        raise BadAnswer("The Engines API answered with a list of things that are not engines.", status=200)
    return {"items": items, "next_cursor": cursor if more else None, "has_next": more}


def record(data: Any, what: str) -> dict[str, Any]:
    """Return the object. Raises BadAnswer if it is none."""
    if not isinstance(data, dict):
        raise BadAnswer(f"The Engines API answered with something that is not {what}.", status=200)
    return data


def _bad(reply: Reply, words: str) -> NoReturn:
    raise BadAnswer(
        f"The Engines API {words} ({reply.status}).",
        status=reply.status,
        request_id=reply.headers.get("x-request-id", ""),
        raw=raw_for_people(reply.body.decode(errors="replace")),
    )
