"""Keys to other services: sealed under an envelope that is bound to its row, and opened only for the call.

AES-256-GCM twice: each row has a data key of its own, wrapped by a key-encryption key that is named by its id and is
never in the database. Text form: `v1.kid.wrapped.nonce.ciphertext`, parts in base64.
"""

import base64
import binascii
import hmac
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from portal.accounts.models import Team, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.vault.models import Connection, StoredKey

NONCE = 12  # bytes


class Sealed(Exception):
    """The key cannot be opened: its key-encryption key is missing or wrong, or the row was tampered with."""


class Secret:
    """A secret in memory. It prints as dots and cannot be pickled; `reveal()` is easy to grep for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(••••)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret does not leave the process")


@transaction.atomic
def store(
    *,
    user: User,
    connection: Connection,
    secret: Secret,
    label: str,
    scopes: list[str],
    refused_reads: Sequence[str] = (),
    keep_earlier: bool = False,
    origin: Origin | None = None,
) -> StoredKey:
    """Seal the person's key to the connection, in place of an earlier one. Audited as key.stored.

    With `keep_earlier` the earlier one is retired instead: what was asked with it goes on with it (key.rotated).
    """
    # One at a time per connection: of two browser tabs, the second replaces the first one's row.
    Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)
    row = current_keys(connection.team).filter(user=user, connection=connection).first()
    before = described(row) if row else {}
    action = "key.stored"
    if row is not None and keep_earlier:
        action = "key.rotated"
        StoredKey.objects.filter(pk=row.pk).update(retired_at=timezone.now())
        row = None
    row = row or StoredKey(team=connection.team, user=user, connection=connection)
    row.sealed = seal(secret, row, settings.VAULT_KEYS)
    row.last_four, row.fingerprint, row.label = ending(secret), fingerprint(secret), label
    _found(row, scopes, refused_reads)
    row.save()
    after = {**described(row), "scopes": scopes}
    record(team=row.team, actor=user, action=action, target=row, origin=origin, before=before, after=after)
    return row


@transaction.atomic
def checked(row: StoredKey, scopes: list[str], refused_reads: Sequence[str], *, by: User, origin: Origin) -> None:
    """Keep what the API says the key may do, now that somebody has tried it. Audited as key.tested."""
    before = {"scopes": row.scopes, "working": not row.last_error}
    _found(row, scopes, refused_reads)
    row.save(update_fields=["scopes", "refused_reads", "checked_at", "last_error", "last_answer", "failing_since"])
    after = {"scopes": scopes, "working": True}
    record(team=row.team, actor=by, action="key.tested", target=row, origin=origin, before=before, after=after)


def _found(row: StoredKey, scopes: list[str], refused_reads: Sequence[str]) -> None:
    row.scopes, row.refused_reads, row.checked_at = scopes, list(refused_reads), timezone.now()
    row.last_error, row.last_answer, row.failing_since = "", {}, None


@transaction.atomic
def remove(row: StoredKey, *, by: User | None, origin: Origin | None = None, reason: str = "") -> None:
    """Delete the key. Operations that were asked with it keep its name. Audited as key.removed; by None: the system."""
    facts: dict[str, Any] = {"owner": str(row.user), "connection": row.connection.name}
    record(
        team=row.team,
        actor=by,
        action="key.removed",
        target=row,
        origin=origin,
        reason=reason,
        before=described(row),
        **facts,
    )
    row.delete()


def described(row: StoredKey) -> dict[str, str]:
    """What the audit log says of a key."""
    return {"label": row.label, "last_four": row.last_four}


def current_keys(team: Team) -> QuerySet[StoredKey]:
    """Return the keys that something new can be asked with."""
    return StoredKey.objects.of(team).filter(retired_at__isnull=True)


@transaction.atomic
def flag(used: StoredKey, error: str, answer: Mapping[str, Any] | None = None) -> None:
    """Keep what the API said of the key, "" if it took it; not if its owner has replaced it since it was used.

    `answer` is the whole of it, redacted.

    That a key begins to be refused is audited (key.refused).
    """
    if error == used.last_error:
        return
    row = StoredKey.objects.filter(pk=used.pk, fingerprint=used.fingerprint)
    if not error:
        row.update(last_error="", last_answer={}, failing_since=None)
        return
    said = {"last_error": error[:300], "last_answer": answer or {}}
    if row.filter(last_error="").update(**said, failing_since=timezone.now()):
        facts: dict[str, Any] = {"owner": str(used.user), "said": error[:300]}
        record(team=used.team, actor=None, action="key.refused", target=used, outcome="refused", **facts)
    else:
        row.update(**said)


def unseal(stored: StoredKey) -> Secret:
    """Open the key. Raises Sealed."""
    return Secret(_open(stored, settings.VAULT_KEYS).decode())


def fingerprint(secret: Secret) -> str:
    """An HMAC that tells keys apart without holding them.

    It is compared with what is stored only, so those made under a former key of VAULT_KEYS go on counting.
    """
    own = hmac.digest(next(iter(keyring(settings.VAULT_KEYS).values())), b"fingerprint", "sha256")
    return hmac.new(own, secret.reveal().encode(), "sha256").hexdigest()


def ending(secret: Secret) -> str:
    """The last four characters, by which its owner knows a key; none of one so short that they would give it away."""
    return secret.reveal()[-4:] if len(secret.reveal()) >= 12 else ""


def keyring(text: str) -> dict[str, bytes]:
    """Read `id:base64,…`; the first one encrypts. Raises ImproperlyConfigured."""
    ring: dict[str, bytes] = {}
    for part in text.split(","):
        kid, _, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not kid or "." in kid or kid in ring or len(key) != 32:
            raise ImproperlyConfigured("VAULT_KEYS must be id:base64 of 32 bytes, separated by commas, no id twice.")
        ring[kid] = key
    return ring


def seal(secret: Secret, row: StoredKey, keys: str) -> str:
    """Return the sealed text for this row."""
    kid, kek = next(iter(keyring(keys).items()))
    data_key, nonce = AESGCM.generate_key(bit_length=256), os.urandom(NONCE)
    sealed = AESGCM(data_key).encrypt(nonce, secret.reveal().encode(), _bound_to(row))
    return ".".join(["v1", kid, _wrap(data_key, kek, kid, row), _text(nonce), _text(sealed)])


def rewrap(row: StoredKey, keys: str) -> str:
    """Return the sealed text with its data key wrapped by the first of `keys`; the ciphertext stays. Raises Sealed."""
    ring = keyring(keys)
    kid, kek = next(iter(ring.items()))
    _, _, nonce, sealed = _parts(row)
    return ".".join(["v1", kid, _wrap(_data_key(row, ring), kek, kid, row), _text(nonce), _text(sealed)])


def _wrap(data_key: bytes, kek: bytes, kid: str, row: StoredKey) -> str:
    nonce = os.urandom(NONCE)
    return _text(nonce + AESGCM(kek).encrypt(nonce, data_key, _bound_to(row) + kid.encode()))


def _open(row: StoredKey, keys: str) -> bytes:
    data_key = _data_key(row, keyring(keys))
    _, _, nonce, sealed = _parts(row)
    try:
        return AESGCM(data_key).decrypt(nonce, sealed, _bound_to(row))
    except InvalidTag:
        raise Sealed(f"The key {row} cannot be opened: it was not sealed for this row. Enter it again.") from None


def _data_key(row: StoredKey, ring: dict[str, bytes]) -> bytes:
    kid, wrapped, _, _ = _parts(row)
    if kid not in ring:
        raise Sealed(f"The key {row} cannot be opened: VAULT_KEYS has no key {kid!r}. Ask who runs this portal.")
    try:
        return AESGCM(ring[kid]).decrypt(wrapped[:NONCE], wrapped[NONCE:], _bound_to(row) + kid.encode())
    except InvalidTag:
        raise Sealed(
            f"The key {row} cannot be opened: it, its connection's address or the key {kid!r} in VAULT_KEYS "
            "is not what it was sealed with. Enter it again."
        ) from None


def _parts(row: StoredKey) -> tuple[str, bytes, bytes, bytes]:
    """Return key id, wrapped data key, nonce and ciphertext. Raises Sealed if the text is not of that form."""
    try:
        version, kid, *parts = row.sealed.split(".")
        wrapped, nonce, sealed = (base64.urlsafe_b64decode(part) for part in parts)
        if version != "v1" or len(wrapped) <= NONCE or len(nonce) != NONCE:
            raise ValueError(version)
    except ValueError:
        raise Sealed(f"The key {row} cannot be opened: what is stored is damaged. Enter it again.") from None
    return kid, wrapped, nonce, sealed


def _bound_to(row: StoredKey) -> bytes:
    """What the ciphertext belongs to: moved to another row, team or address it does not open."""
    return f"v1|{row._meta.db_table}|{row.pk}|{row.team_id}|{row.connection.base_url}|".encode()


def _text(raw: Any) -> str:
    return base64.urlsafe_b64encode(raw).decode()
