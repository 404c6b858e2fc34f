"""Which versions of the engine there are, as a connection's API lists them."""

import logging

from engines.access import client_for, note_refusal
from engines.api.errors import ApiError
from portal.vault.keys import Sealed
from portal.vault.models import StoredKey

log = logging.getLogger(__name__)

SECONDS = 2.0  # a dialog waits for it


def releases_of(key: StoredKey | None) -> dict[str, str]:
    """Return {channel: newest version}; nothing where the API has no such list, or does not answer soon."""
    if key is None:
        return {}
    try:
        with client_for(key, timeout=SECONDS) as client:
            return client.releases()
    except (ApiError, Sealed) as error:
        note_refusal(key, error)
        log.info("no releases from %s: %s", key.connection.base_url, error)
        return {}
