"""Real WebSocket clients behind one face: websocket-client, websockets, and ws in Node.

Each answers pings by itself, as its package does; what it saw of the server's is in `pings`.
"""

import asyncio
import base64
import json
import logging
import os
import queue
import re
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any, Protocol

import websocket as websocket_client
import websockets.asyncio.client
import websockets.exceptions
from websocket import ABNF

from tests.support import node

PATIENCE = 60.0  # seconds; only a failing test waits so long
WS_VERSION = "8.23.0"
SCRIPT = Path(__file__).parent / "node_client.js"

Message = str | bytes
Ending = tuple[int, str]


class Refused(Exception):
    """The server answered the handshake with another status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Client(Protocol):
    """What a test does with a client.

    Attributes:
        protocol: the subprotocol that the server chose, "": none.
        pings: the payloads of the server's pings, up to the last message.
    """

    protocol: str
    pings: list[bytes]

    def __init__(self, url: str, subprotocols: list[str], authority: str) -> None: ...
    def send(self, message: Message) -> None: ...
    def send_fragments(self, *fragments: Message) -> None: ...
    def receive(self) -> Message: ...
    def ping(self, payload: bytes) -> bytes:
        """Returns the payload of the pong."""

    def pong(self) -> None:
        """Sends one that nobody asked for."""

    def close(self, code: int, reason: str) -> Ending:
        """Begins the end, and returns what the server answered."""

    def ending(self) -> Ending:
        """How the server ended it."""

    def leave(self) -> None:
        """Ends the client, whatever state it is in."""


def context(authority: str) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=authority) if authority else None


class WebsocketClient:
    """The websocket-client package."""

    def __init__(self, url: str, subprotocols: list[str], authority: str) -> None:
        options: dict[str, Any] = {"sslopt": {"context": context(authority)}} if authority else {}
        try:
            self._client = websocket_client.create_connection(
                url, timeout=PATIENCE, subprotocols=subprotocols or None, **options
            )
        except websocket_client.WebSocketBadStatusException as error:
            raise Refused(error.status_code) from None
        self.protocol = self._client.getsubprotocol() or ""
        self.pings: list[bytes] = []

    def send(self, message: Message) -> None:
        self._client.send(message) if isinstance(message, str) else self._client.send_binary(message)

    def send_fragments(self, *fragments: Message) -> None:
        opcode = ABNF.OPCODE_TEXT if isinstance(fragments[0], str) else ABNF.OPCODE_BINARY
        for at, fragment in enumerate(fragments):
            frame = ABNF.create_frame(fragment, ABNF.OPCODE_CONT if at else opcode, int(at == len(fragments) - 1))
            self._client.send_frame(frame)

    def receive(self) -> Message:
        opcode, data = self._next(ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY)
        return data.decode() if opcode == ABNF.OPCODE_TEXT else data

    def ping(self, payload: bytes) -> bytes:
        self._client.ping(payload)
        return self._next(ABNF.OPCODE_PONG)[1]

    def pong(self) -> None:
        self._client.pong(b"unasked")

    def close(self, code: int, reason: str) -> Ending:
        self._client.send_close(code, reason.encode())
        return self.ending()

    def ending(self) -> Ending:
        data = self._next(ABNF.OPCODE_CLOSE)[1]
        return int.from_bytes(data[:2], "big"), data[2:].decode()

    def leave(self) -> None:
        self._client.shutdown()

    def _next(self, *wanted: int) -> tuple[int, bytes]:
        while True:
            opcode, data = self._client.recv_data(control_frame=True)
            if opcode in wanted:
                return opcode, data
            assert opcode == ABNF.OPCODE_PING, (opcode, data)
            self.pings.append(data)


class _Pings(logging.Handler):
    """What the log of the websockets package says of pings that came."""

    def __init__(self, pings: list[bytes]) -> None:
        super().__init__(logging.DEBUG)
        self._pings = pings

    def emit(self, record: logging.LogRecord) -> None:
        if match := re.match(r"< PING '(.*)' \[", record.getMessage()):
            self._pings.append(match[1].encode())


class Websockets:
    """The asyncio client of the websockets package.

    Its synchronous one reads and writes one TLS connection in two threads, which OpenSSL does not bear:
    now and then a read fails or a connection breaks, whatever the server.
    """

    def __init__(self, url: str, subprotocols: list[str], authority: str) -> None:
        self.pings: list[bytes] = []
        logger = logging.Logger("websockets of a test")
        logger.addHandler(_Pings(self.pings))
        self._left = False
        self._runner = asyncio.Runner()
        try:
            self._client = self._runner.run(self._open(url, subprotocols, context(authority), logger))
        except BaseException as error:
            self._runner.close()
            if isinstance(error, websockets.exceptions.InvalidStatus):
                raise Refused(error.response.status_code) from None
            raise
        self.protocol: str = self._client.subprotocol or ""

    async def _open(self, url: str, subprotocols: list[str], tls: ssl.SSLContext | None, logger: logging.Logger) -> Any:
        options: dict[str, Any] = {"ssl": tls} if tls else {}
        return await websockets.asyncio.client.connect(
            url, subprotocols=subprotocols or None, compression=None, max_size=None, logger=logger, proxy=None,
            open_timeout=PATIENCE, ping_interval=None, close_timeout=PATIENCE, **options,
        )  # fmt: skip

    def _do(self, action: Any) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(PATIENCE):
                return await action

        return self._runner.run(within())

    def send(self, message: Message) -> None:
        self._do(self._client.send(message))

    def send_fragments(self, *fragments: Message) -> None:
        self._do(self._client.send(fragments))

    def receive(self) -> Message:
        message: Message = self._do(self._client.recv())
        return message

    def ping(self, payload: bytes) -> bytes:
        async def asked() -> None:
            await (await self._client.ping(payload))  # which ends when a pong comes with the same payload

        self._do(asked())
        return payload

    def pong(self) -> None:
        self._do(self._client.pong(b"unasked"))

    def close(self, code: int, reason: str) -> Ending:
        self._do(self._client.close(code, reason))
        return self._ending()

    def ending(self) -> Ending:
        self._do(self._client.wait_closed())
        return self._ending()

    def _ending(self) -> Ending:
        received = self._client.protocol.close_rcvd
        assert received is not None, f"the connection ended without a Close: {self._client.recv_exc!r}"
        return received.code, received.reason

    def leave(self) -> None:
        async def vanish() -> None:
            self._client.transport.abort()

        if not self._left:
            self._left = True
            self._do(vanish())
            self._runner.close()


class NodeWs:
    """The ws package, in a Node of its own."""

    def __init__(self, url: str, subprotocols: list[str], authority: str) -> None:
        self.pings: list[bytes] = []
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        modules = node.package("ws", WS_VERSION)
        self._process = subprocess.Popen(
            [node.program(), SCRIPT, url, json.dumps(subprotocols), authority],
            env={**os.environ, "NODE_PATH": str(modules)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        first = self._events.get(timeout=PATIENCE)
        if first["event"] != "open":
            self.leave()
            assert first["event"] == "refused", first
            raise Refused(first["status"])
        self.protocol: str = first["protocol"]

    def send(self, message: Message) -> None:
        self._do("send", **_written(message))

    def send_fragments(self, *fragments: Message) -> None:
        for at, fragment in enumerate(fragments):
            self._do("send", **_written(fragment), fin=at == len(fragments) - 1)

    def receive(self) -> Message:
        event = self._next("message")
        data = base64.b64decode(event["data"])
        return data if event["binary"] else data.decode()

    def ping(self, payload: bytes) -> bytes:
        self._do("ping", **_written(payload))
        return base64.b64decode(self._next("pong")["data"])

    def pong(self) -> None:
        self._do("pong", **_written(b"unasked"))

    def close(self, code: int, reason: str) -> Ending:
        self._do("close", code=code, reason=reason)
        return self.ending()

    def ending(self) -> Ending:
        event = self._next("close")
        return event["code"], event["reason"]

    def leave(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process.stdout.close()

    def _do(self, command: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def _next(self, wanted: str) -> dict[str, Any]:
        while (event := self._events.get(timeout=PATIENCE))["event"] == "ping":
            self.pings.append(base64.b64decode(event["data"]))
        assert event["event"] == wanted, event
        return event

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))


def _written(message: Message) -> dict[str, str]:
    return {"text": message} if isinstance(message, str) else {"data": base64.b64encode(message).decode()}
