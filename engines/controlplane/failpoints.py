"""Places where a crash test may have this process die. Inert unless the settings say FAILPOINTS_ALLOWED."""

import os

from django.conf import settings


def failpoint(name: str) -> None:
    """End the process at once, as SIGKILL would, if the environment's FAILPOINTS names this place."""
    if getattr(settings, "FAILPOINTS_ALLOWED", False) and name in os.environ.get("FAILPOINTS", "").split(","):
        os._exit(137)
