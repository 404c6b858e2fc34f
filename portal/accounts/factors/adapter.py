"""Where second factors keep their secrets, and what they call the portal."""

from typing import Any

from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings

from portal.vault.texts import open_text, seal_text

PURPOSE = "second factor"


class Adapter(DefaultMFAAdapter):  # type: ignore[misc]
    def encrypt(self, text: str) -> str:
        return seal_text(text, PURPOSE, settings.VAULT_KEYS)

    def decrypt(self, encrypted_text: str) -> str:
        return open_text(encrypted_text, PURPOSE, settings.VAULT_KEYS)

    def _get_site_name(self) -> str:
        return "Engines portal"

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return "Passkey"
