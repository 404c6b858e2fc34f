"""`manage.py rotate_vault_keys`: re-encrypt every stored API key's data key under the first of VAULT_KEYS.

Row by row, so that it can be stopped and started again: what is under the first key already is left alone.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal.vault.keys import Sealed, keyring, rewrap
from portal.vault.models import StoredKey


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
        if failed:
            raise CommandError(f"{rotated} keys re-encrypted under {first}; {failed} could not be opened")
        self.stdout.write(f"{rotated} keys re-encrypted under {first}")
