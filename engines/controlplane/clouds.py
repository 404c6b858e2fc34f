"""The clouds that this control plane can rent machines from, as configured."""

import time
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from engines.controlplane import providers
from engines.controlplane.providers.base import Provider

FRESH_SECONDS = 60.0  # how long a list of types and prices is believed

_read: dict[str, tuple[float, list[dict[str, Any]]]] = {}


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
    found: list[dict[str, Any]] = []
    for each in _clouds().all():
        at, known = _read.get(each.name, (0.0, []))
        if not known or time.monotonic() - at > FRESH_SECONDS:
            known = each.types()
            _read[each.name] = (time.monotonic(), known)
        found += known
    return found
