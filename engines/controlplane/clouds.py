"""The clouds that this control plane can rent machines from, as configured."""

import threading
import time
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from engines.controlplane import providers
from engines.controlplane.providers.base import Provider, Refused, Unclear

FRESH_SECONDS = 60.0  # how long a list of types and prices is believed
ANY = Q()
# Each provider's machines, which are looked after apart: one that hangs holds up its own alone.
PROVIDERS = {"local": Q(cloud="local"), "shadeform": ~Q(cloud="local")}
PAUSE_SECONDS = 5.0  # after a provider did not answer: anybody may ask here, without a key

_read: dict[str, tuple[float, list[dict[str, Any]] | Refused | Unclear]] = {}
_reading: dict[str, threading.Lock] = defaultdict(threading.Lock)


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


def types(cloud: str = "") -> list[dict[str, Any]]:
    """Return every InstanceType on offer, or of this cloud's provider, at most FRESH_SECONDS old.

    Raises Refused or Unclear.
    """
    asked = [each for each in _clouds().all() if not cloud or (each.name == "local") == (cloud == "local")]
    return [offer for each in asked for offer in _types_of(each)]


def _types_of(provider: Provider) -> list[dict[str, Any]]:
    with _reading[provider.name]:  # one asks; who comes meanwhile waits for its answer
        until, known = _read.get(provider.name, (0.0, []))
        if time.monotonic() >= until:
            try:
                known = provider.types()
            except (Refused, Unclear) as trouble:
                known = trouble
            seconds = FRESH_SECONDS if isinstance(known, list) else PAUSE_SECONDS
            _read[provider.name] = (time.monotonic() + seconds, known)
    if isinstance(known, list):
        return known
    raise type(known)(str(known))
