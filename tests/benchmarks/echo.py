"""B14's peer: a `websockets` server that answers every message with itself. `python -m tests.benchmarks.echo PORT`."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        return


async def main(port):
    # No compression, as in an engine's line: with it a connection would cost the peer far more memory.
    async with serve(echo, "127.0.0.1", port, subprotocols=["engines.v1"], compression=None, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
