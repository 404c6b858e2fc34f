"""What a release manifest offers to this host, and the archive behind it. Nothing here touches the installed file."""

import asyncio
import contextlib
import hashlib
import json
import platform
import re
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urljoin

import httpx
import semver

from engines.agent.config import is_loopback
from engines.agent.version import VERSION

CHANNELS = ("stable", "canary")
LARGEST_MANIFEST = 256 * 1024  # bytes
LARGEST_ARCHIVE = 256 * 1024**2
MANIFEST_SECONDS = 20.0
SILENCE_SECONDS = 20.0  # without a byte
FETCH_SECONDS = 1800.0
MOST_REDIRECTS = 5
CHUNK = 1024**2
PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}


class Unfit(Exception):
    """This release cannot take the engine's place. The text is for a person: what is wrong, and where."""


@dataclass(frozen=True)
class Release:
    """What a manifest offers. `builds` is as it came: only the one for this host is ever looked at."""

    version: str
    url: str  # of the manifest, where it was found in the end
    builds: dict[str, Any]

    def replaces(self, wanted: str, have: str = VERSION) -> bool:
        """Whether to install it in place of `have`. A channel only goes up; an exact tag may go down too."""
        offered, present = _parsed(self.version), _parsed(have)
        return offered > present or (wanted not in CHANNELS and offered != present)

    def archive(self) -> tuple[str, str]:
        """Address and SHA-256 of the archive for this host. Raises Unfit."""
        here = host_platform()
        if here not in self.builds:
            raise Unfit(f"{self.version} has no build for {here}, only for {', '.join(self.builds) or 'nothing'}")
        build = self.builds[here]
        url, sha256 = (build.get("url"), build.get("sha256")) if isinstance(build, dict) else (None, None)
        if not isinstance(url, str) or not isinstance(sha256, str) or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise Unfit(f"the manifest at {self.url} gives no url and sha256 for {here}")
        return urljoin(self.url, url), sha256.lower()


def manifest_url(base: str, wanted: str) -> str:
    """Where the manifest of a channel or a tag lies in the release tree at `base`."""
    return "/".join([base.rstrip("/"), *([] if wanted == "stable" else [wanted]), "manifest.json"])


def host_platform() -> str:
    """`linux-amd64`: a manifest's word for this host."""
    processor = platform.machine().lower()
    return f"{sys.platform}-{PROCESSORS.get(processor, processor)}"


async def find(wanted: str, url: str) -> Release:
    """Read the manifest at `url`. Raises Unfit when it is not there, not understood, or not of the tag `wanted`."""
    if wanted not in CHANNELS and not _is_version(wanted):
        raise Unfit(f"{wanted!r} is neither stable, canary nor a tag such as v1.2.3")
    text = b""
    async with _get(url, MANIFEST_SECONDS) as response:
        async for chunk in response.aiter_raw():
            text += chunk
            if len(text) > LARGEST_MANIFEST:
                raise Unfit(f"{url} has more than {LARGEST_MANIFEST} bytes: not a release manifest")
    release = _read(text, str(response.url))
    if wanted not in CHANNELS and _parsed(wanted) != _parsed(release.version):
        raise Unfit(f"the manifest at {url} is for {release.version}, not for {wanted}")
    return release


async def fetch(url: str, sha256: str, into: BinaryIO) -> None:
    """Download an archive and check its sum. Raises Unfit, or OSError when it cannot be stored."""
    digest, size = hashlib.sha256(), 0
    async with _get(url, FETCH_SECONDS) as response:
        async for chunk in response.aiter_raw(CHUNK):
            size += len(chunk)
            if size > LARGEST_ARCHIVE:
                raise Unfit(f"{url} has more than {LARGEST_ARCHIVE} bytes: not an engine's archive")
            await asyncio.to_thread(digest.update, chunk)
            await asyncio.to_thread(into.write, chunk)
    if digest.hexdigest() != sha256:
        raise Unfit(f"{url} does not have the SHA-256 of its manifest: it is damaged or was replaced")


@contextlib.asynccontextmanager
async def _get(url: str, seconds: float) -> AsyncIterator[httpx.Response]:
    """A response to read raw, as the file lies on the server. Raises Unfit for whatever goes wrong on the way."""
    try:
        async with asyncio.timeout(seconds), await _client(url) as http, http.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise Unfit(f"{url} cannot be fetched: the server answers {response.status_code}")
            yield response
    except TimeoutError as error:
        raise Unfit(f"{url} cannot be fetched: not complete after {seconds:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unfit(f"{url} cannot be fetched: {str(error) or type(error).__name__}") from error


async def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers={"User-Agent": f"engines-agent/{VERSION}", "Accept-Encoding": "identity"},
        timeout=SILENCE_SECONDS,
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        event_hooks={"request": [_refuse_open_lines]},  # sees the redirects too
        trust_env=not is_loopback(httpx.URL(url).host),
        verify=await asyncio.to_thread(ssl.create_default_context),
    )


async def _refuse_open_lines(request: httpx.Request) -> None:
    if request.url.scheme != "https" and not (request.url.scheme == "http" and is_loopback(request.url.host)):
        raise Unfit(f"{request.url} is not fetched: a release from another host must come over https")


def _read(text: bytes, url: str) -> Release:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"{url} is not a release manifest: no JSON") from error
    version, builds = (manifest.get("version"), manifest.get("builds")) if isinstance(manifest, dict) else (None, None)
    if not isinstance(version, str) or not _is_version(version) or not isinstance(builds, dict):
        raise Unfit(f"{url} is not a release manifest: it needs a version such as v1.2.3, and builds")
    return Release(version, url, builds)


def _is_version(text: str) -> bool:
    return len(text) <= 100 and semver.Version.is_valid(text.removeprefix("v"))


def _parsed(text: str) -> semver.Version:
    return semver.Version.parse(text.removeprefix("v"))
