"""`manage.py rotate_vault_keys`: re-encrypt each stored API key's data key, and what second factors keep, under the
first of VAULT_KEYS.

Row by row, so that it can be stopped and started again: what is under the first key already is left alone.
"""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import decrypt, encrypt
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from portal.vault.keys import Sealed, keyring, rewrap
from portal.vault.models import StoredKey
from portal.vault.texts import is_under_first_key


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        first = next(iter(keyring(settings.VAULT_KEYS)))
        rotated, failed = 0, 0
        for row in StoredKey.objects.exclude(sealed__startswith=f"v1.{first}.").select_related("connection").iterator():
            try:
                # Compare-and-swap: a key that its owner replaces meanwhile keeps the owner's.
                rotated += StoredKey.objects.filter(pk=row.pk, sealed=row.sealed).update(
                    sealed=rewrap(row, settings.VAULT_KEYS)
                )
            except Sealed as error:
                failed += 1
                self.stderr.write(str(error))
        for row in Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).select_related("user").iterator():
            try:
                rotated += rotate_factor(row.pk)
            except Sealed as error:
                failed += 1
                self.stderr.write(f"{row} of {row.user}: {error}")
        if failed:
            raise CommandError(f"{rotated} keys re-encrypted under {first}; {failed} could not be opened")
        self.stdout.write(f"{rotated} keys re-encrypted under {first}")


@transaction.atomic
def rotate_factor(number: int) -> bool:
    """Seal what the second factor keeps under the first key; False if it was already, or is gone. Raises Sealed."""
    row = Authenticator.objects.select_for_update().filter(pk=number).first()
    if row is None:
        return False
    name = "secret" if row.type == Authenticator.Type.TOTP else "seed"
    if is_under_first_key(row.data[name], settings.VAULT_KEYS):
        return False
    row.data[name] = encrypt(decrypt(row.data[name]))
    row.save(update_fields=["data"])
    return True
