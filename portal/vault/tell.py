"""Telling people by mail that their key is refused. Each page of theirs says so too, mail or not."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db.models import F, Q

from portal import mail
from portal.vault.models import StoredKey

PAUSE = timedelta(hours=1)  # between two mails about one key, however often it comes and goes


def owners_to_tell(now: datetime) -> Iterator[Callable[[], None]]:
    """Yield a job for each key that has begun to be refused since its owner was last written to."""
    if not mail.is_configured():
        return
    untold = Q(told_at__isnull=True) | (Q(told_at__lt=F("failing_since")) & Q(told_at__lt=now - PAUSE))
    rows = StoredKey.objects.filter(untold, failing_since__isnull=False, retired_at__isnull=True, user__is_active=True)
    for key in rows.select_related("user", "connection", "team"):
        yield partial(tell, key, now)


def tell(key: StoredKey, now: datetime) -> None:
    """Write to the key's owner, once: of two workers one does, and a mail that fails is not tried again."""
    same = Q(told_at__isnull=True) if key.told_at is None else Q(told_at=key.told_at)
    if StoredKey.objects.filter(same, pk=key.pk).update(told_at=now) != 1:
        return
    where = f"\n\n{settings.PORTAL_URL}/keys/" if settings.PORTAL_URL else ""
    body = (
        f"{key.connection.name} refuses your key {key} in {key.team}:\n\n{key.last_error}\n\n"
        f"Nothing can be asked with it. Enter another one on the Keys page.{where}"
    )
    mail.send(key.user.email, f"{key.connection.name} refuses your key {key.label}", body)
