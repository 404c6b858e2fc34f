"""POST /run, without the ways round that Django's ASGI handler and ninja make for views that may be anything.

The handler starts a thread and opens a connection to the database for every request and changes threads several times
on the way. A request that waits for nothing but the database is served in one go, in a thread that stays.
"""

import io

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from engines.controlplane.connection import Message, Send
from engines.controlplane.database import for_caller
from engines.controlplane.middleware import Refusal
from engines.controlplane.problems import Problem
from engines.controlplane.ratelimits import RUN_PATHS
from engines.controlplane.routes.common import body_of
from engines.controlplane.routes.tasks import WRITE, run
from engines.controlplane.schemas import RunIn


class Direct(ASGIHandler):
    """The same site: the same middleware, view and answers."""

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

    def _get_response(self, request: HttpRequest) -> HttpResponseBase:
        try:
            response = _run(request)
        except Exception as error:
            response = self.process_exception_by_middleware(error, request)
            if response is None:
                raise
        return super()._get_response(request) if response is None else response  # type: ignore[misc]  # not in the stubs


def _run(request: HttpRequest) -> HttpResponse | None:
    """Do what ninja does around `run`; None for a body whose faults it has to name."""
    try:
        asked = RunIn.model_validate(body_of(request))
    except (ValueError, RecursionError):
        return None
    try:
        request.auth = WRITE(request)  # type: ignore[attr-defined]  # as ninja has it
        return run(request, asked)
    except Problem as problem:
        return Refusal(problem)
