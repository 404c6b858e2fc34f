"""Which versions of the engine there are, as a connection's API lists them."""

import logging

from engines.access import client_for, note_refusal
from engines.api.advice import WentWrong, reading_went_wrong
from engines.api.errors import ApiError, answer_of
from portal.vault.keys import Sealed
from portal.vault.models import StoredKey

log = logging.getLogger(__name__)

SECONDS = 2.0  # a dialog waits for it


def releases_of(key: StoredKey | None) -> tuple[dict[str, str], WentWrong | None]:
    """Return {channel: newest version}, nothing where the API has no such list; and what went wrong."""
    if key is None:
        return {}, None
    try:
        with client_for(key, timeout=SECONDS) as client:
            return client.releases(), None
    except (ApiError, Sealed) as error:
        note_refusal(key, error)
        log.info("no releases from %s: %s", key.connection.base_url, error)
        has_none = isinstance(error, ApiError) and error.status in (404, 405)
        return {}, None if has_none else reading_went_wrong(answer_of(error))
