"""The patience of the socket: a side that says nothing, or takes nothing, is let go of."""

import asyncio

import pytest

from engines import wire
from engines.controlplane import connection
from engines.controlplane.connection import Line
from engines.controlplane.sessions import Over


async def forever(message=None):
    await asyncio.Event().wait()


def test_silence_ends_the_connection():
    with pytest.raises(Over) as over:
        asyncio.run(Line(forever, forever).hear(0.01))
    assert over.value.code == wire.CLOSE_SILENT


def test_a_side_that_takes_no_frames_ends_the_connection(monkeypatch):
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.01)
    with pytest.raises(Over) as over:
        asyncio.run(Line(forever, forever).say([{"type": "welcome", "data": {}}]))
    assert over.value.code == wire.CLOSE_SILENT


def test_a_hang_up_is_no_frame():
    async def gone():
        return {"type": "websocket.disconnect", "code": 1006}

    assert asyncio.run(Line(gone, forever).hear(1)) is None


def test_a_reason_fits_into_a_close_frame():
    assert len(Over(4003, "ü" * 200).reason.encode()) <= 123
