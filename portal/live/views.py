"""The one event stream of a browser."""

from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
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
    viewer = Viewer.of(request)
    # The middleware's connection belongs to this request's thread, and would be kept as long as the stream lasts.
    await sync_to_async(connections.close_all)()
    return StreamingHttpResponse(
        _frames(viewer),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(viewer: Viewer) -> AsyncIterator[bytes]:
    with hub().stream(viewer) as stream:
        yield RETRY
        while frame := await stream.next():
            yield frame
