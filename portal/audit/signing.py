"""Signatures of checkpoints and seals: Ed25519, with a key that is made from SECRET_KEY and is in no database.

Who has only the public key can check them. A former key stays valid while its SECRET_KEY is in SECRET_KEY_FALLBACKS.
"""

import hashlib
import json
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def signed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the key's id and the signature of all of that. They must be JSON."""
    key = _key(settings.SECRET_KEY)
    named = fields | {"key": key_id(key)}
    return named | {"signature": key.sign(_bytes(named)).hex()}


def flaw(fields: dict[str, Any]) -> str:
    """Return what is wrong with the signature, in words; "" if nothing is."""
    known = {key_id(key): key for key in (_key(one) for one in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))}
    key = known.get(str(fields.get("key")))
    if key is None:
        return f"is signed with key {fields.get('key')!r}, which this portal does not have"
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    try:
        key.public_key().verify(bytes.fromhex(str(fields.get("signature"))), _bytes(unsigned))
    except (InvalidSignature, ValueError):
        return "was changed after it was signed"
    return ""


def public_key() -> str:
    """Return the current public key, 32 bytes in hex."""
    return _key(settings.SECRET_KEY).public_key().public_bytes_raw().hex()


def key_id(key: Ed25519PrivateKey) -> str:
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]


@cache
def _key(secret: str) -> Ed25519PrivateKey:
    derived = HKDF(SHA256(), 32, salt=None, info=b"portal audit signatures v1").derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(derived)


def _bytes(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
