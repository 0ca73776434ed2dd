"""A WebSocket on a loop of the core, without the Python above it: a test is its application."""

import contextlib
import socket
from typing import Any

from streamserve.core import ffi, lib
from tests.support.frames import described, server_frames
from tests.support.http_listener import HttpListener
from tests.support.loop import SECOND, Loop

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class WebSocketListener(HttpListener):
    """Upgrades what connects.

    Args:
        limits: Fields of ss_ws_config to set; the rest are large.
    """

    def __init__(self, loop: Loop, cleanup: contextlib.ExitStack, **limits: Any) -> None:
        super().__init__(loop, cleanup)
        self.config = ffi.new("ss_ws_config *")
        self.config.ping_interval = self.config.ping_timeout = self.config.close_timeout = 1000 * SECOND
        self.config.max_message = self.config.out_limit = 1 << 24
        for name, value in limits.items():
            setattr(self.config, name, value)
        self.messages: list[tuple[int, int, bytes]] = []

    def upgraded(self, receive_buffer: int = 0, behind: bytes = b"") -> tuple[socket.socket, int]:
        """A client behind its handshake, and the handle of its connection.

        Args:
            behind: What the client sends together with its request.
        """
        client = self.connect(receive_buffer)
        client.sendall(UPGRADE + behind)
        handle = self.request()
        answer = lib.ss_ws_upgrade(self.loop.core, handle, SWITCHING, len(SWITCHING), self.config)
        assert answer == lib.SS_OK
        received = b""
        while len(received) < len(SWITCHING):
            received += client.recv(len(SWITCHING) - len(received))
        assert received == SWITCHING
        return client, handle

    def poll(self, timeout_ns: int = 0) -> list[tuple[int, int, int]]:
        """Polls once: keeps the messages, returns the events."""
        core = self.loop.core
        found = lib.ss_loop_poll(core, timeout_ns)
        assert found >= 0, found
        fault = lib.ss_verify(core)
        assert fault == ffi.NULL, ffi.string(fault)
        words = ffi.unpack(lib.ss_loop_messages(core), (found >> 32) * lib.SS_MESSAGE_WORDS)
        payloads = lib.ss_ws_payloads(core)
        for number, handle, word, offset in zip(*[iter(words)] * 4, strict=True):
            assert number == self.number
            opcode, length = word & 255, word >> lib.SS_WS_LENGTH_SHIFT
            assert offset >= 0 or lib.ss_ws_take(core, handle) != ffi.NULL, "a message that was told can be taken"
            data = payloads + offset if offset >= 0 else lib.ss_ws_take(core, handle)
            self.messages.append((handle, opcode, ffi.unpack(data, length)))
        events = ffi.unpack(lib.ss_loop_events(core), (found >> 16 & 0xFFFF) * lib.SS_EVENT_WORDS)
        return list(zip(events[::3], events[1::3], events[2::3], strict=True))

    def told(self, count: int) -> list[str]:
        """Polls until Python was told of `count` messages; returns all, described."""
        while len(self.messages) < count:
            self.poll(20 * SECOND)
        return [described(opcode, payload) for _, opcode, payload in self.messages]

    def send(self, handle: int, payload: bytes, opcode: int = lib.SS_WS_BINARY, flags: int = 0) -> int:
        queued: int = lib.ss_ws_send(self.loop.core, handle, opcode, payload, len(payload), flags)
        assert lib.ss_verify(self.loop.core) == ffi.NULL
        return queued

    def close(self, handle: int, code: int = 1000, reason: bytes = b"") -> int:
        answer: int = lib.ss_ws_close(self.loop.core, handle, code, reason, len(reason))
        return answer

    def answers(self, client: socket.socket) -> list[str]:
        """What the client gets up to the end of the connection, while the loop polls."""
        frames, rest = server_frames(self.received(client))
        assert rest == b""
        return [described(opcode, payload) for opcode, payload in frames]

    def received(self, client: socket.socket) -> bytes:
        """All bytes up to the end of the connection; the client then closes its side."""
        client.setblocking(False)
        data = bytearray()
        while True:
            self.poll(SECOND // 1000)
            try:
                part = client.recv(1 << 20)
            except BlockingIOError:
                continue
            if not part:
                client.close()
                return bytes(data)
            data += part

    def live(self) -> int:
        return self.loop.counts()[lib.SS_COUNT_CONNECTIONS]

    def until_gone(self) -> None:
        """Polls until no connection is left."""
        while self.live():
            self.poll(20 * SECOND)
