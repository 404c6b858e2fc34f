"""Places where a crash test may have this process die or stand still. Inert unless the settings allow them."""

import os
import signal

from django.conf import settings


def failpoint(name: str) -> None:
    """End this process, or with `pause:name` stop it as SIGSTOP does, if the environment's FAILPOINTS says so."""
    if not getattr(settings, "FAILPOINTS_ALLOWED", False):
        return
    asked = os.environ.get("FAILPOINTS", "").split(",")
    if name in asked:
        os._exit(137)
    if f"pause:{name}" in asked:
        os.environ["FAILPOINTS"] = ""
        os.kill(os.getpid(), signal.SIGSTOP)
