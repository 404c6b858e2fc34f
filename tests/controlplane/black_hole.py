"""A TCP proxy before one server or several, in turn.

It can stop carrying anything, both ways, without ending a connection: a cable that was pulled.
"""

import asyncio
import contextlib
import itertools
import threading


class BlackHole:
    def __init__(self, *ports):
        self._to = itertools.cycle(ports)
        self._open = asyncio.Event()
        self._open.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._carry, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *error):
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def swallow(self):
        """From now on nothing comes through, and nobody is told."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def restore(self):
        self._loop.call_soon_threadsafe(self._open.set)

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _end(self):
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, from_client, to_client):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", next(self._to))
        try:
            with contextlib.suppress(asyncio.CancelledError):  # asked by `_end`; asyncio's own callback would complain
                await asyncio.gather(self._pump(from_client, to_server), self._pump(from_server, to_client))
        finally:
            to_client.transport.abort()
            to_server.transport.abort()

    async def _pump(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
            await self._open.wait()
            writer.close()
