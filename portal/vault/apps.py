from django.apps import AppConfig
from django.conf import settings


class VaultConfig(AppConfig):
    name = "portal.vault"

    def ready(self) -> None:
        """Refuse to start with VAULT_KEYS that nothing can be sealed with, rather than fail at the first key."""
        from portal.vault.keys import keyring

        keyring(settings.VAULT_KEYS)
