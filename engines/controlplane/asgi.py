"""The ASGI entry point of the control plane alone."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.asgi import get_asgi_application


def _server() -> Any:
    django = get_asgi_application()
    from engines.controlplane.server import Server  # its models need the apps that the line above loads

    return Server(django)


application = _server()
