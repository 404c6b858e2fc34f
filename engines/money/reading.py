"""Readings that decide about money: with the asker's key, else with one of the team's. Never a purchase."""

from engines import wire
from engines.access import client_for, reading_keys
from engines.api import errors
from engines.models import Operation
from engines.money.kinds import KINDS
from portal.vault.keys import Sealed, flag
from portal.vault.models import StoredKey


def reading(operation: Operation) -> wire.Engine | None:
    """Read the engine; None if the API has it no more, or not yet. Raises ApiError if no key gets an answer."""
    refused: errors.ApiError = errors.KeyRejected("No key of the team may read this API.")
    for key in keys(operation):
        try:
            with client_for(key, request_id=operation.request_id) as client:
                return KINDS[operation.verb].find(operation, client)
        except errors.EngineGone:
            return None
        except errors.KeyRejected as error:
            refused = error
            flag(key, str(error), errors.answer_of(error))
        except Sealed as error:
            flag(key, str(error))
    raise refused


def books(operation: Operation) -> int | None:
    """Return what the API's own books say was paid for a new machine, in microcents; None if no key may read any.

    Raises ApiError if they cannot be read just now.
    """
    for key in keys(operation):
        try:
            with client_for(key, request_id=operation.request_id) as client:
                paid = client.paid(operation.uid, operation.engine_name)
        except Sealed as error:
            flag(key, str(error))
        else:
            if paid is not None:
                return paid
    return None


def keys(operation: Operation) -> list[StoredKey]:
    own = [operation.key] if operation.key else []
    return own + [key for key in reading_keys(operation.connection) if key.pk != operation.key_id]
