"""The ASGI entry point of both sites: the portal, or (SERVES=api) the embedded Engines API."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application


def portal() -> Any:
    """Return Django's application, which knows HTTP only, with an answer to the server's other questions."""
    django = get_asgi_application()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await django(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            await _live(receive, send)

    return application


async def _live(receive: Any, send: Any) -> None:
    while True:
        event = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{event}.complete"})
        if event == "shutdown":
            return


def api() -> Any:
    from engines.controlplane.asgi import application

    return application


application = api() if settings.SERVES == "api" else portal()
