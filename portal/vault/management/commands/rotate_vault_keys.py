"""`manage.py rotate_vault_keys`: re-encrypt each stored API key's data key, and what second factors keep, under the
first of VAULT_KEYS.

Row by row, so that it can be stopped and started again: what is under the first key already is left alone. It succeeds
only if nothing is under another key any more. With `--verify` it changes nothing: it opens every row, says how many are
under which key, and fails if any does not open.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import decrypt, encrypt
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.db.models import QuerySet

from portal.accounts.models import Team
from portal.audit.log import record
from portal.vault.keys import Sealed, keyring, rewrap, unseal
from portal.vault.models import StoredKey
from portal.vault.texts import is_under_first_key


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--verify", action="store_true", help="open every row, and change none")

    def handle(self, *args: Any, **options: Any) -> None:
        self.failed = 0
        if options["verify"]:
            self._verify()
            return
        first = next(iter(keyring(settings.VAULT_KEYS)))
        announce(first)
        rotated = sum(self._tried(rotate_key, row) for row in other_keys(first).select_related("connection").iterator())
        rotated += sum(self._tried(rotate_factor, row) for row in factors().iterator())
        done = f"{rotated} keys re-encrypted under {first}"
        if self.failed:
            raise CommandError(f"{done}; {self.failed} could not be opened")
        # What a process with the former VAULT_KEYS has sealed meanwhile.
        if left := other_keys(first).count() + len(other_factors()):
            raise CommandError(f"{done}; {left} are under another key. Is everything restarted? Run this again.")
        self.stdout.write(done)

    def _verify(self) -> None:
        under: Counter[str] = Counter()
        for row in StoredKey.objects.select_related("connection").iterator():
            under[key_of(row.sealed)] += bool(self._tried(unseal, row))
        for factor in factors().iterator():
            under[key_of(sealed_in(factor))] += bool(self._tried(opened, factor))
        for kid in sorted({*under, *keyring(settings.VAULT_KEYS)}):
            self.stdout.write(f"{kid}: {under[kid]} open")
        if self.failed:
            raise CommandError(f"{self.failed} cannot be opened")

    def _tried(self, job: Callable[[Any], Any], row: Any) -> Any:
        """Return what the job does with the row; 0 if it cannot be opened, which is said and counted."""
        try:
            return job(row)
        except Sealed as error:
            self.failed += 1
            self.stderr.write(f"{row} of {row.user}: {error}")
            return 0


def key_of(sealed: str) -> str:
    return sealed.split(".")[1] if "." in sealed else "damaged"


def other_keys(first: str) -> QuerySet[StoredKey]:
    return StoredKey.objects.exclude(sealed__startswith=f"v1.{first}.").select_related("user")


def factors() -> QuerySet[Authenticator]:
    """Return the second factors that keep something sealed."""
    rows: QuerySet[Authenticator] = Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).select_related(
        "user"
    )
    return rows


def other_factors() -> list[Authenticator]:
    return [row for row in factors() if not is_under_first_key(sealed_in(row), settings.VAULT_KEYS)]


def announce(first: str) -> None:
    """Audit it in each team that it is about, before it begins: it may be stopped in the middle."""
    owned = Team.objects.filter(pk__in=other_keys(first).values("team"))
    of_people = Team.objects.filter(memberships__user__in=[row.user_id for row in other_factors()])
    for team in (owned | of_people).distinct():
        record(team=team, actor=None, action="vault.rotated", target=team, after={"under": first})


def rotate_key(row: StoredKey) -> int:
    """Return whether it was done. Compare-and-swap: a key that its owner replaces meanwhile keeps the owner's."""
    same = StoredKey.objects.filter(pk=row.pk, sealed=row.sealed)
    return same.update(sealed=rewrap(row, settings.VAULT_KEYS))


@transaction.atomic
def rotate_factor(found: Authenticator) -> bool:
    """Seal what it keeps under the first key; False if it is already, or is gone. Raises Sealed."""
    row = Authenticator.objects.select_for_update().filter(pk=found.pk).first()
    if row is None or is_under_first_key(sealed_in(row), settings.VAULT_KEYS):
        return False
    row.data[kept_as(row)] = encrypt(opened(row))
    row.save(update_fields=["data"])
    return True


def kept_as(row: Authenticator) -> str:
    return "secret" if row.type == Authenticator.Type.TOTP else "seed"


def sealed_in(row: Authenticator) -> str:
    return str(row.data[kept_as(row)])


def opened(row: Authenticator) -> str:
    return str(decrypt(sealed_in(row)))
