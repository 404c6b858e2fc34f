"""Short secrets that the portal itself needs: sealed under the same key-encryption keys, named by their id.

AES-256-GCM. Text form: `t1.kid.nonce.ciphertext`, parts in base64. Unlike people's API keys they are bound to what they
are for, not to a row.
"""

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from portal.vault.keys import NONCE, Sealed, keyring


def seal_text(text: str, purpose: str, keys: str) -> str:
    """Return the text sealed under the first of `keys`; it opens for the same purpose only."""
    kid, kek = next(iter(keyring(keys).items()))
    nonce = os.urandom(NONCE)
    sealed = AESGCM(kek).encrypt(nonce, text.encode(), f"{purpose}|{kid}".encode())
    return ".".join(["t1", kid, *(base64.urlsafe_b64encode(part).decode() for part in (nonce, sealed))])


def open_text(sealed: str, purpose: str, keys: str) -> str:
    """Return the text. Raises Sealed if its key is not among `keys`, or if it was tampered with."""
    try:
        version, kid, *parts = sealed.split(".")
        nonce, ciphertext = (base64.urlsafe_b64decode(part) for part in parts)
        if version != "t1":
            raise ValueError(version)
        return AESGCM(keyring(keys)[kid]).decrypt(nonce, ciphertext, f"{purpose}|{kid}".encode()).decode()
    except (ValueError, KeyError, InvalidTag):
        raise Sealed("A stored secret cannot be opened: VAULT_KEYS lacks its key, or it was damaged.") from None


def is_under_first_key(sealed: str, keys: str) -> bool:
    return sealed.startswith(f"t1.{next(iter(keyring(keys)))}.")
