"""The demo's engines: each with its own copy of a release, so that it can be updated, and one in the local cloud."""

import re
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from portal.services import Place

RENTED = "cloud-burst"
RENTED_TYPE = "cpu-2"
RENTED_HOURS = 8
BALANCE = "250.00"  # dollars


def released(place: Place, version: str) -> Path:
    """Return the one-file engine of a release that was built here."""
    return place.data / "dist" / version / "inferencesh-engine"


def program(place: Place, name: str, version: str) -> Path:
    """Return the engine's own file: what it was updated to, else this tree's release."""
    own = place.data / "engines" / name / "engine"
    if not own.exists() or _version(own) == version:
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = own.with_suffix(".new")
        shutil.copyfile(released(place, version), fresh)
        fresh.chmod(0o700)
        fresh.replace(own)
    return own


def _version(file: Path) -> str:
    try:
        text = zipfile.ZipFile(file).read("engines/agent/version.py").decode()
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""
    found = re.search(r'VERSION = "([^"]+)"', text)
    return found[1] if found else ""


def canary(version: str) -> str:
    """Return the tag of this tree's canary: just newer than its stable release."""
    numbers, _, last = version.rpartition(".")
    return f"{numbers}.{int(last) + 1}-canary.1"


def rent(place: Place, key: str) -> str:
    """Order a cloud engine at the embedded API, as a person would. Return why that failed, "" if it did not."""
    until = datetime.now(UTC) + timedelta(hours=RENTED_HOURS)
    body = {
        "name": RENTED,
        "instance": {"cloud": "local", "region": "here", "shade_instance_type": RENTED_TYPE},
        "auto_delete": {"date_threshold": until.isoformat()},
    }
    # Sent once: an order without an answer may have arrived.
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "the demo's cloud engine"}
    try:
        answer = httpx.post(f"{place.api_url}/engines", json=body, headers=headers, timeout=20, trust_env=False)
    except httpx.TransportError as error:
        return str(error)
    return "" if answer.is_success else str(answer.json().get("detail", answer.status_code))
