"""The second factors that a person has, and whether the portal can read them."""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import decrypt

from portal.accounts.models import User
from portal.vault.keys import Sealed

UNREADABLE = (
    "What your authenticator app and recovery codes are checked with cannot be read: the key that sealed it is missing "
    "from VAULT_KEYS. Ask who runs this portal; a passkey works all the same."
)


def of(user: User) -> dict[str, Any]:
    """Return the person's factors for the account page: `app`, `passkeys`, `codes` and how many of them are `unused`.

    `unused` is None for codes that cannot be read; `unreadable` says why the app or the codes cannot.
    """
    rows = list(Authenticator.objects.filter(user=user).order_by("created_at"))
    by_type = {row.type: row for row in rows}
    app, codes = by_type.get(Authenticator.Type.TOTP), by_type.get(Authenticator.Type.RECOVERY_CODES)
    unused, unreadable = None, ""
    try:
        if codes:
            unused = len(codes.wrap().get_unused_codes())
        if app:
            decrypt(app.data["secret"])
    except Sealed:
        unreadable = UNREADABLE
    return {
        "app": app,
        "passkeys": [row for row in rows if row.type == Authenticator.Type.WEBAUTHN],
        "codes": codes,
        "unused": unused,
        "unreadable": unreadable,
    }
