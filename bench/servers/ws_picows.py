# mypy: disable-error-code="import-not-found, import-untyped"
"""picows under uvloop: `python -m bench.servers.ws_picows echo|broadcast PORT`."""

from __future__ import annotations

import sys
from typing import Any

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

_everyone: set[WSTransport] = set()


class Echo(WSListener):  # type: ignore[misc]  # picows has no types
    """Sends back what comes."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One message: ws_load sends no other frames."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Everyone(WSListener):  # type: ignore[misc]
    """Sends what comes to all."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """One more that gets them."""
        _everyone.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One message."""
        payload = frame.get_payload_as_bytes()
        for other in _everyone:
            other.send(frame.msg_type, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """One fewer."""
        _everyone.discard(transport)


async def main() -> None:
    """Serve on the port."""
    kind = Everyone if sys.argv[1] == "broadcast" else Echo

    def listener(request: WSUpgradeRequest) -> Any:
        return kind()

    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[2]), backlog=1024)
    await server.serve_forever()


uvloop.run(main())
