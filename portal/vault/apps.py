from django.apps import AppConfig
from django.conf import settings


class VaultConfig(AppConfig):
    name = "portal.vault"

    def ready(self) -> None:
        """Refuse to start with settings that nothing can be sealed or sent with, rather than fail at the first key."""
        from portal.vault.addresses import networks
        from portal.vault.keys import keyring

        keyring(settings.VAULT_KEYS)
        networks(tuple(settings.CONNECTION_NETWORKS))
