"""Where engines find new binaries: manifests in the contract's shape (ENGINES_API.md 7.6).

They lie in a folder that this server hands out under /dist/engine, or at ENGINE_DIST_URL, somebody else's server.
"""

import json
import time
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings

from engines.controlplane.problems import Problem
from engines.controlplane.update import CANARY, STABLE

PATH = "/dist/engine"
SECONDS = 5.0
FRESH_SECONDS = 60.0
MOST_BYTES = 200_000

_read: dict[str, tuple[float, dict[str, Any] | None]] = {}


def manifest_url(version: str, api_url: str) -> str:
    """Return the address of the manifest for stable, canary or a tag."""
    base = settings.ENGINE_DIST_URL or api_url.rstrip("/") + PATH
    return f"{base}/{_name(version)}"


def _name(version: str) -> str:
    return "manifest.json" if version == STABLE else f"{version}/manifest.json"


def folder() -> Path:
    return Path(settings.ENGINE_DIST_DIR)


def heads() -> dict[str, Any]:
    """Return the contract's EngineReleasesResponse: the newest version of each channel, None where there is none."""
    return {channel: _head(channel) for channel in (STABLE, CANARY)}


def _head(channel: str) -> dict[str, str] | None:
    manifest = _fetched(channel) if settings.ENGINE_DIST_URL else _local(channel)
    if manifest is None or not isinstance(manifest.get("version"), str):
        return None
    return {"version": manifest["version"], "release_date": str(manifest.get("releaseDate", ""))}


def _local(channel: str) -> dict[str, Any] | None:
    try:
        return _object(folder().joinpath(_name(channel)).read_bytes())
    except OSError:
        return None


def _fetched(channel: str) -> dict[str, Any] | None:
    """Read it over HTTP, at most once a minute. Raises Problem 502 when that place does not answer."""
    at, known = _read.get(channel, (-FRESH_SECONDS, None))
    if time.monotonic() - at < FRESH_SECONDS:
        return known
    try:
        answer = httpx.get(manifest_url(channel, ""), timeout=SECONDS)
        found = None if answer.status_code == 404 else _object(answer.raise_for_status().content)
    except httpx.HTTPError as error:
        raise Problem(502, "releases_unavailable", "The place where releases are kept does not answer.") from error
    _read[channel] = (time.monotonic(), found)
    return found


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body[:MOST_BYTES])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
