"""The clouds that are configured. Which provider rents which."""

from dataclasses import dataclass
from pathlib import Path

from engines.controlplane.providers.base import Provider, Refused


@dataclass(frozen=True)
class Clouds:
    """What this control plane can rent from. None and "" mean that there is no such provider here."""

    local_folder: Path | None
    local_command: list[str]
    shadeform_key: str
    shadeform_url: str

    def provider(self, cloud: str) -> Provider:
        """Return who rents machines of this cloud. Raises Refused if nobody is configured."""
        raise Refused(f"{cloud} is not configured here.")

    def all(self) -> list[Provider]:
        return []
