"""A TCP proxy that mistreats connections, each as the weather of the moment has it."""

import asyncio
import contextlib
import threading

CALM = {"pass": 1}
CHUNK = 65536
LONG = 15.0  # seconds that a held-back answer or a silent server lasts at most
TROUBLE = (OSError, asyncio.IncompleteReadError)


class Proxy:
    """Listens on `port` and forwards to port `target`. `weather` weighs the ways, and `random` draws among them."""

    def __init__(self, target, random):
        self.weather, self.target = CALM, target
        self.drawn = {}
        self._random, self._open = random, set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self):
        """Reset every connection that is open now."""
        self._do(self._cut())

    async def _cut(self):
        for writer in list(self._open):
            writer.transport.abort()

    def close(self):
        self._server.close()
        self.cut()
        self._do(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _finish(self):
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader, writer):
        way = self._random.choices(list(self.weather), list(self.weather.values()))[0]
        self.drawn[way] = self.drawn.get(way, 0) + 1
        self._open.add(writer)
        try:
            with contextlib.suppress(*TROUBLE):
                await getattr(self, f"_{way}")(reader, writer)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def _beyond(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._open.add(writer)
        try:
            yield reader, writer
        finally:
            self._open.discard(writer)
            writer.close()

    async def _pass(self, reader, writer):
        async with self._beyond() as (far_reader, far_writer):
            await asyncio.wait(
                [
                    asyncio.ensure_future(_pump(reader, far_writer)),
                    asyncio.ensure_future(_pump(far_reader, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _refuse(self, reader, writer):
        """Reset at once: nothing is read."""

    async def _black_hole(self, reader, writer):
        await asyncio.sleep(LONG)

    async def _cut_before(self, reader, writer):
        """Take the request, and hand it to nobody."""
        await reader.read(CHUNK)

    async def _late(self, reader, writer):
        await asyncio.sleep(self._random.uniform(0.5, 6))
        await self._pass(reader, writer)

    async def _cut_after(self, reader, writer):
        """Have the request carried out, and lose the answer."""
        await self._answered(reader)

    async def _half(self, reader, writer):
        answer = await self._answered(reader)
        writer.write(answer[: len(answer) // 2])
        await writer.drain()

    async def _swallow(self, reader, writer):
        await self._answered(reader)
        await asyncio.sleep(LONG)

    async def _answered(self, reader):
        async with self._beyond() as (far_reader, far_writer):
            request = await reader.readuntil(b"\r\n\r\n")
            far_writer.write(request + await reader.readexactly(_length(request)))
            return await far_reader.read(CHUNK)


async def _pump(reader, writer):
    with contextlib.suppress(*TROUBLE):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


def _length(head):
    lines = head.lower().split(b"\r\n")
    return next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
