# mypy: disable-error-code="import-not-found, import-untyped"
"""websockets under uvloop: `python -m bench.servers.ws_websockets echo|broadcast PORT`."""

from __future__ import annotations

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

_everyone: set[ServerConnection] = set()


async def echo(websocket: ServerConnection) -> None:
    """Sends back what comes."""
    async for message in websocket:
        await websocket.send(message)


async def to_all(websocket: ServerConnection) -> None:
    """Sends what comes to all."""
    _everyone.add(websocket)
    try:
        async for message in websocket:
            broadcast(_everyone, message)
    finally:
        _everyone.discard(websocket)


async def main() -> None:
    """Serve on the port, without what the others do not do either: compression, a limit of size."""
    handler = to_all if sys.argv[1] == "broadcast" else echo
    async with serve(
        handler, "127.0.0.1", int(sys.argv[2]), compression=None, max_size=None, ping_interval=None, backlog=1024
    ) as server:
        await server.serve_forever()


uvloop.run(main())
