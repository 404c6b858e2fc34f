"""POST /run, without the ways round that Django's ASGI handler makes for views that may be anything.

That handler starts a thread and opens a connection to the database for every request and changes threads several times
on the way. A request that waits for nothing but the database is served in one go, in a thread that stays.
"""

import io

from django.core.handlers.asgi import ASGIHandler

from engines.controlplane.connection import Message, Send
from engines.controlplane.database import for_caller
from engines.controlplane.ratelimits import RUN_PATHS


class Direct(ASGIHandler):
    """The same site: the same middleware, routes and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)

    @staticmethod
    def serves(scope: Message) -> bool:
        return scope["method"] == "POST" and scope["path"].removeprefix("/v1") in RUN_PATHS

    async def answer(self, scope: Message, body: bytes, send: Send) -> None:
        """Serve one request whose body was read. It runs to its end even if the client hangs up."""
        request, refusal = self.create_request(scope, io.BytesIO(body))
        response = refusal if request is None else await for_caller(self.get_response, request)
        assert response is not None
        await self.send_response(response, send)
