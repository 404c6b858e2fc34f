"""Machines rented through Shadeform (https://docs.shadeform.ai). Nothing is repeated here: the caller decides."""

import json
import re
import time
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

import httpx

from engines.controlplane.providers import launch
from engines.controlplane.providers.base import Machine, NotNow, Order, Refused, Unclear

BODY_LIMIT = 8 * 1024 * 1024  # bytes; the list of types is long
CONNECT_SECONDS = 5.0
NO_TIME = "0001-01-01T00:00:00Z"
MOST_DOLLARS = 10**9  # that one machine can have cost
WORDS = 300  # characters of the provider's own words that are passed on

# Raised before the first byte of the request leaves; after any other error it may have arrived.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)

# What a machine's other members may show. The rest holds the engine's key: its script and its environment.
FACTS = {
    "cloud",
    "region",
    "shade_instance_type",
    "cloud_instance_type",
    "cloud_assigned_id",
    "shade_cloud",
    "os",
    "ssh_key_id",
    "template_id",
    "status_details",
    "hourly_price",
    "rental_type",
    "volume_ids",
    "tags",
    "configuration",
    "auto_delete",
    "alert",
    "volume_mount",
    "boot_time",
    "created_at",
    "active_at",
    "deleted_at",
}


class ApiKey(httpx.Auth):
    """Puts the key into the header and nowhere else."""

    def __init__(self, value: str) -> None:
        if not re.fullmatch(r"[!-~]+", value):
            raise ValueError("the Shadeform API key has characters that no key has")
        self._value = value

    def __repr__(self) -> str:
        return "ApiKey(••••)"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["X-API-KEY"] = self._value
        yield request

    def scrub(self, text: str) -> str:
        """Return the text without the key: an API that repeats it must not get it shown."""
        return text.replace(self._value, "****")


class Shadeform:
    """Rents machines with one account's key. `timeout` is in seconds, for each wait; a call takes three at most.

    Each call is a connection of its own, so that "nothing was sent" is certain when no connection came about.
    """

    name = "shadeform"

    def __init__(
        self, api_key: str, base_url: str = "https://api.shadeform.ai/v1", timeout: float = 25.0, *, os: str = ""
    ) -> None:
        self._key = ApiKey(api_key)
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._os = os  # one of the type's os_options; "" takes the provider's usual one

    def __repr__(self) -> str:
        return "Shadeform()"

    def types(self) -> list[dict[str, Any]]:
        found = self._listed("/instances/types?sort=price", "instance_types")
        return [offer for item in found if (offer := _offer(item))]

    def create(self, order: Order) -> str:
        if order.rental_type != "on_demand":
            raise Refused(f"Shadeform rents on demand only, not {_plain(order.rental_type)}; nothing was ordered.")
        body: dict[str, Any] = {
            "cloud": order.cloud,
            "region": order.region,
            "shade_instance_type": order.instance_type,
            "shade_cloud": True,
            "name": order.name,
            "launch_configuration": launch.configuration(order.launch),
            "tags": ["engines-portal"],
        }
        body |= {"os": self._os} if self._os else {}
        if order.delete_at or order.spend_limit is not None:
            body["auto_delete"] = _auto_delete(order.delete_at, order.spend_limit)
        answer = self._call("POST", "/instances/create", body, hidden=order.launch.api_key)
        machine_id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(machine_id, str) or not machine_id:
            raise Unclear("Shadeform's answer to the order has no id.")
        return machine_id

    def find(self, name: str) -> Machine | None:
        found = [_machine(item) for item in self._listed("/instances", "instances") if item.get("name") == name]
        # One that is going is the answer only if there is no other under this name.
        found.sort(key=lambda machine: machine.status == "deleting")
        return next((machine for machine in found if machine.status != "deleted"), None)

    def info(self, machine_id: str) -> Machine | None:
        try:
            answer = self._call("GET", _path(machine_id, "info"))
        except Gone:
            return None
        machine = _machine(answer)
        if machine.id != machine_id:
            raise Unclear("Shadeform answered with another machine.")
        return None if machine.status == "deleted" else machine

    def set_auto_delete(self, machine_id: str, delete_at: datetime | None, spend_limit: Decimal | None) -> None:
        # null removes a limit there; one that is left out would stay as it was.
        self._call("POST", _path(machine_id, "update"), {"auto_delete": _auto_delete(delete_at, spend_limit)})

    def delete(self, machine_id: str) -> None:
        try:
            self._call("POST", _path(machine_id, "delete"))
        except Gone:
            # A wrong address knows no machine either, and would have it paid for for ever: it has to know the list.
            listed = [
                _machine(item) for item in self._listed("/instances", "instances") if item.get("id") == machine_id
            ]
            if any(machine.status not in ("deleting", "deleted") for machine in listed):
                raise

    def restart(self, machine_id: str) -> None:
        self._call("POST", _path(machine_id, "restart"))

    def _listed(self, path: str, member: str) -> list[dict[str, Any]]:
        answer = self._call("GET", path)
        items = answer.get(member) if isinstance(answer, dict) else None
        # "Not in the list" must never come from a list that was not understood.
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Unclear("Shadeform's answer is not the list that was asked for.")
        return items

    def _call(self, method: str, path: str, body: Any = None, *, hidden: str = "") -> Any:
        """Send once; return the decoded answer, None for an empty one. Raises Gone, Refused or Unclear."""
        status, content = self._exchange(method, path, body)
        if 200 <= status < 300:
            return _decoded(content)
        words = self._key.scrub(_words(content))
        words = words.replace(hidden, "****") if hidden else words
        words = f": {_plain(words).rstrip('.')}." if words else "."
        if status == 404:
            raise Gone(f"Shadeform knows nothing like it (404){words}")
        if status == 429:
            raise NotNow(f"Shadeform takes no more requests for now; try again later{words}")
        if 400 <= status < 500 and status != 408:  # 408: it did not get the whole request, or says so too late
            raise Refused(f"Shadeform refused with {status}{words}")
        raise Unclear(f"Shadeform answered {status}{words}")

    def _exchange(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        deadline = time.monotonic() + 2 * self._timeout
        try:
            with self._http() as http, closing(self._send(http, method, path, body)) as response:
                return response.status_code, self._body(response, deadline)
        except NOT_SENT as error:
            failure: Exception = NotNow(f"Shadeform could not be reached; nothing was sent ({_plain(str(error))}).")
        except httpx.TimeoutException:
            failure = Unclear("Shadeform did not answer in time.")
        except httpx.HTTPError:
            failure = Unclear("The connection to Shadeform broke before it had answered.")
        # Raised out here, the error does not carry httpx's own along: that one holds the request, keys included.
        raise failure

    def _http(self) -> httpx.Client:
        return httpx.Client(
            auth=self._key,
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"},
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, CONNECT_SECONDS)),
            verify=_ssl_context() if self._base_url.startswith("https:") else False,
            trust_env=False,
            follow_redirects=False,
        )

    def _send(self, http: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
        given = {} if body is None else {"json": body}
        return http.send(http.build_request(method, self._base_url + path, **given), stream=True)

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise Unclear("Shadeform's answer is too long to be read.")
            if time.monotonic() > deadline:
                raise Unclear("Shadeform did not finish its answer in time.")
        return bytes(body)


class Gone(Refused):
    """It knows no such machine."""


@cache
def _ssl_context() -> SSLContext:
    return httpx.create_ssl_context()


def _path(machine_id: str, verb: str) -> str:
    if machine_id in ("", ".", ".."):
        raise Gone("No machine has such an id.")
    return f"/instances/{quote(machine_id, safe='')}/{verb}"


def _auto_delete(delete_at: datetime | None, spend_limit: Decimal | None) -> dict[str, str | None]:
    return {
        "date_threshold": None if delete_at is None else _moment(delete_at),
        "spend_threshold": None if spend_limit is None else format(spend_limit, "f"),
    }


def _moment(when: datetime) -> str:
    """As RFC 3339 in whole seconds, never earlier than asked: the time is paid for."""
    if when.tzinfo is None:
        raise ValueError("a time to delete a machine needs its zone")
    whole = when.replace(microsecond=0)
    return (whole + timedelta(seconds=when > whole)).isoformat()


def _decoded(content: bytes) -> Any:
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Unclear("Shadeform's answer cannot be read.") from None


def _machine(item: Any) -> Machine:
    if not isinstance(item, dict) or not all(
        item.get(name) and isinstance(item[name], str) for name in ("id", "status")
    ):
        raise Unclear("Shadeform's answer does not describe a machine.")
    status: str = item["status"]
    port = item.get("ssh_port")
    return Machine(
        id=item["id"],
        name=_text(item, "name"),
        status=_plain(status)[:20],
        ip=_plain(_text(item, "ip"))[:100],
        ssh_user=_plain(_text(item, "ssh_user"))[:100],
        ssh_port=port if isinstance(port, int) and 0 <= port < 2**16 else 0,
        cost=_dollars(item.get("cost_estimate")),
        error=_plain(_text(item, "status_details") or "Shadeform gives no reason") if status == "error" else "",
        facts={name: value for name, value in item.items() if name in FACTS},
    )


def _text(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""


def _dollars(value: object) -> Decimal:
    """An estimate that cannot be read is none: the price and the hours say more than it does."""
    try:
        dollars = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return dollars if dollars.is_finite() and 0 <= dollars < MOST_DOLLARS else Decimal(0)


def _offer(item: dict[str, Any]) -> dict[str, Any] | None:
    """Return the contract's InstanceType, None for what an engine cannot be installed on."""
    places = item.get("availability")
    places = [place for place in places if _is_place(place)] if isinstance(places, list) else []
    named = all(isinstance(item.get(name), str) for name in ("cloud", "shade_instance_type"))
    # In a container there is no systemd to keep the engine running.
    if (
        not named
        or not places
        or type(item.get("hourly_price")) is not int
        or item.get("deployment_type") == "container"
    ):
        return None
    best = next((place for place in places if place.get("available")), places[0])
    offer = {
        "cloud_instance_type": "",
        "deployment_type": "vm",
        "region": best["region"],
        **item,
        "id": f"{item['cloud']}.{item['shade_instance_type']}",
        "rental_type": "on_demand",
        "availability": places,
    }
    bounds = offer.pop("boot_time", None)
    return offer | _boot_time(bounds)


def _is_place(place: object) -> bool:
    return isinstance(place, dict) and isinstance(place.get("region"), str)


def _boot_time(given: object) -> dict[str, Any]:
    """The contract has an average where Shadeform has bounds."""
    bounds = [given.get(name) for name in ("min_boot_in_sec", "max_boot_in_sec")] if isinstance(given, dict) else []
    known = [bound for bound in bounds if isinstance(bound, int)]
    if not known:
        return {}
    return {"boot_time": {"average_seconds": sum(known) // len(known), "updated_at": NO_TIME, "sample_size": 0}}


def _words(content: bytes) -> str:
    """What the provider says is wrong, as it says it; "" if it says nothing."""
    text = content.decode(errors="replace")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    if isinstance(said, dict):
        named = (said.get(name) for name in ("error", "error_message", "message", "detail", "title"))
        said = next((words for words in named if words), "")
    if isinstance(said, dict):
        said = said.get("message") or ""
    # A long run of base64 is our own script come back, with the engine's key in it.
    return re.sub(r"[A-Za-z0-9+/=]{60,}", "…", said) if isinstance(said, str) else ""


def _plain(text: str) -> str:
    """For a person on one line: no control characters, not too long."""
    text = " ".join(text.split())
    shown = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
    return shown if len(shown) <= WORDS else shown[: WORDS - 1] + "…"
