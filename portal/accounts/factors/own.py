"""The second factors that a person has."""

from typing import Any

from allauth.mfa.models import Authenticator

from portal.accounts.models import User


def of(user: User) -> dict[str, Any]:
    """Return the person's factors for the account page: `app`, `passkeys`, and how many recovery codes are `unused`."""
    rows = list(Authenticator.objects.filter(user=user).order_by("created_at"))
    by_type = {row.type: row for row in rows}
    codes = by_type.get(Authenticator.Type.RECOVERY_CODES)
    return {
        "app": by_type.get(Authenticator.Type.TOTP),
        "passkeys": [row for row in rows if row.type == Authenticator.Type.WEBAUTHN],
        "unused": len(codes.wrap().get_unused_codes()) if codes else None,
    }
