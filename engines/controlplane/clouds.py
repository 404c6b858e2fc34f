"""The clouds that this control plane can rent machines from, as configured."""

import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from engines.controlplane import providers
from engines.controlplane.providers.base import Provider, Refused, Unclear

FRESH_SECONDS = 60.0  # how long a list of types and prices is believed
PAUSE_SECONDS = 5.0  # after a provider did not answer: anybody may ask here, without a key

_read: dict[str, tuple[float, list[dict[str, Any]] | Refused | Unclear]] = {}
_reading = threading.Lock()


@cache
def _clouds() -> providers.Clouds:
    folder = settings.LOCAL_CLOUD_DIR
    return providers.Clouds(
        local_folder=Path(folder) if folder else None,
        local_command=settings.LOCAL_CLOUD_COMMAND,
        local_image=settings.LOCAL_CLOUD_IMAGE,
        shadeform_key=settings.SHADEFORM_API_KEY,
        shadeform_url=settings.SHADEFORM_URL,
    )


def provider(cloud: str) -> Provider:
    """Return who rents machines of this cloud. Raises Refused if nobody is configured."""
    return _clouds().provider(cloud)


def types() -> list[dict[str, Any]]:
    """Return every InstanceType on offer, at most FRESH_SECONDS old. Raises Refused or Unclear."""
    with _reading:  # one asks; who comes meanwhile waits for its answer
        return [offer for each in _clouds().all() for offer in _types_of(each)]


def _types_of(provider: Provider) -> list[dict[str, Any]]:
    until, known = _read.get(provider.name, (0.0, []))
    if time.monotonic() >= until:
        try:
            known = provider.types()
        except (Refused, Unclear) as trouble:
            known = trouble
        _read[provider.name] = (time.monotonic() + (FRESH_SECONDS if isinstance(known, list) else PAUSE_SECONDS), known)
    if isinstance(known, list):
        return known
    raise type(known)(str(known))
