"""Making an engine known to the Engines API."""

import ssl
from typing import Any, cast

import httpx

from engines import wire
from engines.agent.config import Config
from engines.agent.state import StateDir
from engines.agent.version import VERSION

TIMEOUT_SECONDS = 15.0


class Refused(Exception):
    """The API does not want this key (401, 403), or this request (another 4xx): trying again is pointless."""


class Away(Exception):
    """The API gave no usable answer now. It may later."""


async def register(config: Config, state: StateDir, boot_id: str, info: dict[str, Any]) -> wire.Registered:
    """Register under the saved id, or the configured one while none is saved.

    Without either, or when the API no longer knows the saved one, the API gives a new id. It never replaces a
    configured id: that engine has a record elsewhere, and a second one would be a stray. Saves the id.
    Raises Refused or Away.
    """
    engine_id = state.engine_id() or config.engine_id
    headers = {
        "Authorization": f"Bearer {config.api_key.reveal()}",
        "X-API-Version": "2",
        "User-Agent": f"engines-agent/{VERSION}",
    }
    # A redirect would carry the key elsewhere; httpx does not follow one unless told to.
    async with httpx.AsyncClient(
        headers=headers, timeout=TIMEOUT_SECONDS, trust_env=not config.local, verify=_authorities(config)
    ) as http:
        response = await _post(http, config, _body(config, engine_id, boot_id, info))
        if response.status_code == httpx.codes.NOT_FOUND and engine_id and not config.engine_id:
            response = await _post(http, config, _body(config, "", boot_id, info))
    registered = _read(response)
    state.save_engine_id(registered["engine_id"])
    return registered


def _authorities(config: Config) -> ssl.SSLContext | bool:
    """The host's own certificate authorities, as for the socket; plain http has nothing to verify."""
    return ssl.create_default_context() if config.api_url.startswith("https:") else False


async def _post(http: httpx.AsyncClient, config: Config, body: wire.Registration) -> httpx.Response:
    try:
        return await http.post(f"{config.api_url}/engines/register", json=body)
    except httpx.TransportError as error:
        raise Away(f"the API at {config.api_url} does not answer ({str(error) or type(error).__name__})") from error


def _body(config: Config, engine_id: str, boot_id: str, info: dict[str, Any]) -> wire.Registration:
    workers = config.workers.on_the_wire()
    known = {"id": engine_id, "name": config.name, "api_url": config.api_url, "api_key": "", "workers": workers}
    return {
        "local_engine_state": {
            "id": engine_id,
            "name": config.name,
            "config": known,
            "public_key": "",
            "boot_id": boot_id,
        },
        "api_url": config.api_url,
        "system_info": info,
        "worker_config": workers,
    }


def _read(response: httpx.Response) -> wire.Registered:
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success:
        return _registered(body)
    problem = f"{response.status_code} {_words(body) or response.reason_phrase}"
    if response.is_client_error and response.status_code not in (404, 408, 409, 429):
        raise Refused(f"the API refuses this engine: {problem}")
    raise Away(f"the API answers {problem}")


def _registered(body: Any) -> wire.Registered:
    """Unwrap the three success formats; raise Away on anything that is not a registration."""
    if isinstance(body, dict) and isinstance(body.get("data"), dict):
        body = body["data"]
    workers = body.get("workers") if isinstance(body, dict) else None
    if not isinstance(workers, list) or not body.get("engine_id") or not all(_is_worker(w) for w in workers):
        raise Away("the API's answer to the registration is not understood")
    return cast(wire.Registered, body)


def _is_worker(worker: object) -> bool:
    return isinstance(worker, dict) and isinstance(worker.get("id"), str)


def _words(body: Any) -> str:
    """What the API says is wrong, from problem+json or the oldest format."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    old = error.get("message") if isinstance(error, dict) else error
    return str(body.get("detail") or body.get("title") or old or "")[:300]
