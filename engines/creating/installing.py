"""The one command that puts an engine on a host: it fetches the API's release, checks it, and starts it."""

import logging
import re
import shlex
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from engines.api.client import EnginesClient
from engines.api.errors import ApiError

log = logging.getLogger(__name__)

PLATFORM = "linux-amd64"  # one file for all processors; each platform's archive holds it
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Command:
    """What to paste, around the place of the key: whoever shows it puts that in, and nothing else keeps it."""

    before: str
    after: str


def command(client: EnginesClient, base_url: str, name: str) -> Command | None:
    """Return the command for an engine of that name; None if the API hands out no release that can be started."""
    try:
        archive = _archive(client.manifest(), f"{base_url}/dist/engine/manifest.json")
    except ApiError as error:
        log.info("no release of the engine at %s: %s", base_url, error)
        return None
    if archive is None:
        return None
    url, sha256 = archive
    fetched = [
        f"curl -fsSLo engine.tar.gz {shlex.quote(url)}",
        f"echo '{sha256}  engine.tar.gz' | sha256sum --check --quiet",
        "tar -xzOf engine.tar.gz > inferencesh-engine",
    ]
    start = f"python3 inferencesh-engine serve --api-url={shlex.quote(base_url)} --name={shlex.quote(name)}"
    return Command(" &&\n".join([*fetched, "INFERENCE_API_KEY='"]), f"' {start}")


def _archive(manifest: dict[str, Any], where: str) -> tuple[str, str] | None:
    """Return address and checksum of the archive; None if the manifest (contract 7.6) names none."""
    builds = manifest.get("builds")
    build = builds.get(PLATFORM) if isinstance(builds, dict) else None
    if not isinstance(build, dict):
        return None
    url, sha256 = urljoin(where, str(build.get("url"))), str(build.get("sha256"))
    sane = urlsplit(url).scheme in ("http", "https") and url.isprintable() and SHA256.fullmatch(sha256)
    return (url, sha256) if sane else None
