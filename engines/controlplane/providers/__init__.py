"""The clouds that are configured. Which provider rents which."""

from dataclasses import dataclass, field
from pathlib import Path

from engines.controlplane.providers.base import Provider, Refused


@dataclass(frozen=True)
class Clouds:
    """What this control plane can rent from. None and "" mean that there is no such provider here."""

    local_folder: Path | None
    local_command: list[str]
    local_image: str
    shadeform_key: str = field(repr=False)
    shadeform_url: str

    def provider(self, cloud: str) -> Provider:
        """Return who rents machines of this cloud. Raises Refused if nobody is configured."""
        # Imported here: the local cloud's host is a module of this package, and has no use for an HTTP client.
        if cloud == "local":
            from engines.controlplane.providers.local import LocalCloud

            if self.local_folder is None:
                raise Refused("The local cloud is not configured: set LOCAL_CLOUD_DIR.")
            return LocalCloud(self.local_folder, self.local_command, image=self.local_image)
        from engines.controlplane.providers.shadeform import Shadeform

        if not self.shadeform_key:
            raise Refused(f"The cloud {cloud[:50]!r} is not configured: set SHADEFORM_API_KEY.")
        return Shadeform(self.shadeform_key, self.shadeform_url)

    def all(self) -> list[Provider]:
        """Return every provider that is configured."""
        local = [self.provider("local")] if self.local_folder is not None else []
        return local + ([self.provider("shadeform")] if self.shadeform_key else [])
