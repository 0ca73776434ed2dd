"""Clients that do everything wrong on upgraded connections: afterwards nothing is left, and the server answers.

WEBSOCKET_ABORTS=100000 in the environment aborts so many connections, instead of 2,000.
"""

import contextlib
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.websocket import Resource, WebSocket, WebSocketApplication, broadcast
from tests.support.client import Client
from tests.support.frames import frame
from tests.support.server import Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.websocket.conftest import Connect, Serve
from tests.websocket.test_websocket import HANDSHAKE, echo

ABORTS = int(os.environ.get("WEBSOCKET_ABORTS", "2000"))
CONNECTIONS = 300  # of the torture, on each backend
PATHS = [b"/loop", b"/room", b"/socket"]
TEXT, BINARY, CLOSE, PING, PONG = lib.SS_WS_TEXT, lib.SS_WS_BINARY, lib.SS_WS_CLOSE, lib.SS_WS_PING, lib.SS_WS_PONG
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
COMPRESSED = bytes.fromhex("f248cdc9c90700")
FRAMES = [
    frame(TEXT, b"hello"),
    frame(TEXT, "grüße".encode() * 40),
    frame(BINARY, bytes(range(256))),
    frame(BINARY, b"x" * 70_000),
    frame(TEXT, b"one", fin=False) + frame(PING, b"between") + frame(0, b"two"),
    frame(TEXT, b"begun", fin=False),
    frame(0, b"continued"),
    frame(TEXT, COMPRESSED, options=("rsv1",)),
    frame(BINARY, zlib.compress(b"no raw deflate"), options=("rsv1",)),
    frame(PING),
    frame(PONG, b"unasked"),
    frame(CLOSE, b"\x03\xe8bye"),
    frame(CLOSE),
    frame(TEXT, b"\xff\xfe"),
    frame(BINARY, b"", options=("length=9999999",)),
    frame(11),
    b"\x00",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
]


def raw_echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raw = environ["streamserve.socket"]
    with contextlib.suppress(OSError):
        raw.sendall(SWITCHING)
        while data := raw.recv(1000):
            raw.sendall(data)
    return []


@pytest.fixture
def tortured(serve: Serve) -> Iterator[Running]:
    """A server with a loop of messages, a room without greenlets, and a socket of the application's."""
    members: list[WebSocket] = []

    class Room(WebSocketApplication):
        def on_open(self) -> None:
            members.append(self.ws)

        def on_message(self, message: str | bytes) -> None:
            broadcast(members, message)

        def on_close(self, reason: str) -> None:
            members.remove(self.ws)

    application = Resource({"/room": Room, "/socket": raw_echo, "/.*": echo})
    yield serve(
        application, websocket_compression="on", websocket_compression_threshold=16, websocket_close_timeout=0.2
    )
    eventually(lambda: not members, "every one that was opened was closed")


def handshake(path: bytes) -> bytes:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    return HANDSHAKE.replace(b"GET /", b"GET " + path, 1) + offer


def mutated(data: bytes, chance: random.Random) -> bytes:
    """With a byte changed, left out, or put in; or cut short."""
    if not data:
        return data
    at = chance.randrange(len(data))
    return chance.choice(
        [
            data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at] + chance.randbytes(1) + data[at:],
            data[:at],
        ]
    )


def misbehave(client: Client, path: bytes, chance: random.Random) -> None:
    """Upgrades, and sends frames, some of them broken, in pieces of any size; then leaves in some way."""
    data = b"".join(chance.choices(FRAMES, k=chance.randrange(1, 8)))
    for _ in range(chance.randrange(3)):
        data = mutated(data, chance)
    if chance.random() < 0.2:
        data += chance.randbytes(chance.randrange(200))
    at = 0
    with contextlib.suppress(OSError):  # it may have been thrown out
        if chance.random() < 0.8:
            client.send(handshake(path))
            assert client.head().status == 101
        else:
            data = handshake(path) + data
        while at < len(data):
            size = min(chance.choice([1, 2, 7, 100, 5000, 100_000]), len(data) - at)
            client.send(data[at : at + size])
            at += size
        if chance.random() < 0.3:
            client.socket.recv(1000)
        if chance.random() < 0.3:
            client.finish()


def leave(client: Client, chance: random.Random) -> None:
    if chance.random() < 0.5:
        client.reset()
    else:
        client.close()


def torture(server: Running, count: int, opened: Callable[[int], Client], look: Callable[[], None]) -> None:
    """Has many clients misbehave, up to twenty at a time.

    Args:
        opened: Makes a client with such a receive buffer, in bytes, 0: the usual one.
        look: Is called now and then.
    """
    chance = random.Random(1)
    clients: list[Client] = []
    for number in range(count):
        client = opened(chance.choice([0, 0, 0, 4096]))
        client.socket.settimeout(0.05)  # of a client that the server does not read
        clients.append(client)
        misbehave(client, chance.choice(PATHS), chance)
        if len(clients) > 20:
            leave(clients.pop(chance.randrange(len(clients))), chance)
        if number % 10 == 0:
            server.verify()
            look()
    for client in clients:
        leave(client, chance)


def test_nothing_is_left_of_connections_that_send_anything(tortured: Running, connect: Connect) -> None:
    witness = connect(tortured, "/loop")

    def look() -> None:
        witness.send("still there?")
        assert witness.recv() == "still there?"

    torture(tortured, CONNECTIONS, lambda buffer: Client(tortured.addresses[0], receive_buffer=buffer), look)
    witness.close()
    eventually(lambda: not tortured.left_behind(), "all of it is gone")


def test_nothing_is_left_of_them_over_tls(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = serve(
        echo,
        certfile=authority.issue("localhost", "127.0.0.1"),
        websocket_compression="on",
        websocket_close_timeout=0.2,
    )
    trust = authority.trust()
    torture(
        server,
        CONNECTIONS // 4,
        lambda buffer: TlsClient(server.addresses[0], trust, receive_buffer=buffer),
        lambda: None,
    )
    eventually(lambda: not server.left_behind(), "all of it is gone")


def abort(server: Running, opening: bytes, frames: bytes, first: int, number: int) -> None:
    """Sends a part of what a client sends, and ends the connection in one of several ways.

    Args:
        first: Bytes of the first of the frames, which is answered.
        number: Of the connection: says where it ends, and how.
    """
    stream = opening + frames
    cut = number % (len(stream) + 1)
    with socket.create_connection(server.addresses[0], timeout=60) as client:
        client.sendall(stream[: min(cut, len(opening))])
        if cut >= len(opening):
            received = b""
            while b"\r\n\r\n" not in received:
                received += client.recv(1)
            assert received.startswith(b"HTTP/1.1 101 ")
            client.sendall(stream[len(opening) : cut])
        if cut >= len(opening) + first and number % 2:
            assert client.recv(1)
        if number % 7 == 0:
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass
        elif number % 7 < 6:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_connections_that_end_at_any_byte_leave_nothing(tortured: Running) -> None:
    first = frame(TEXT, b"x" * 100)
    frames = first + FRAMES[4] + FRAMES[7] + frame(BINARY, bytes(200)) + frame(CLOSE, b"\x03\xe8")
    for number in range(ABORTS):
        abort(tortured, handshake(PATHS[number % len(PATHS)]), frames, len(first), number)
        if number % 20 == 0:
            tortured.verify()
    eventually(lambda: not tortured.left_behind(), "all of it is gone")
    assert tortured.ask(handshake(b"/loop").replace(b"Version: 13", b"Version: 12")).status == 426
