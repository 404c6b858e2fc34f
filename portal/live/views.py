"""The one event stream of a browser."""

from collections.abc import AsyncIterator

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.http import StreamingHttpResponse
from django.views.decorators.http import require_GET

from portal.http import PortalRequest
from portal.live.hub import hub
from portal.live.viewers import Viewer

RETRY = b"retry: 3000\n\n"  # milliseconds before the browser connects anew


@require_GET
async def stream(request: PortalRequest) -> StreamingHttpResponse:
    """Answer with the team's topics as they change; `up` and `down` say whether any can be expected.

    Ends within seconds when the session or the membership does. Holds no database connection.
    """
    return StreamingHttpResponse(
        _frames(Viewer.of(request)),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(viewer: Viewer) -> AsyncIterator[bytes]:
    await _release_thread()
    with hub().stream(viewer) as stream:
        yield RETRY
        while frame := await stream.next():
            yield frame


async def _release_thread() -> None:
    """Give back what the middleware used: Django keeps a thread per request, and a connection in it, until its end.

    A stream's answer ends in hours. What runs in a thread later, at its end, gets a new one.
    """
    await sync_to_async(connections.close_all)()
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context and (executor := SyncToAsync.context_to_thread_executor.pop(context, None)):
        executor.shutdown(wait=False)
