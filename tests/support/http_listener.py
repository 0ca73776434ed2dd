"""An HTTP listener on a loop of the core, without the Python above it: a test is its application."""

import contextlib
import socket
from typing import Any

from streamserve.core import ffi, lib
from tests.support.loop import SECOND, Loop

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = lib.SS_SEND_HEAD | lib.SS_SEND_LENGTH | lib.SS_SEND_LAST


class HttpListener:
    """Listens on a free port of a loop; all is closed with `cleanup`.

    Args:
        config: Fields of ss_listener_config to set.
    """

    def __init__(self, loop: Loop, cleanup: contextlib.ExitStack, **config: Any) -> None:
        self.loop, self.cleanup = loop, cleanup
        self.socket = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.socket.setblocking(False)
        settings = ffi.new("ss_listener_config *")
        lib.ss_listener_defaults(settings)
        for name, value in config.items():
            setattr(settings, name, value)
        self.number = lib.ss_listener_open(loop.core, self.socket.fileno(), settings)
        assert self.number >= 0
        cleanup.callback(lib.ss_listener_close, loop.core, self.number)

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        """A client; with a small receive buffer it is soon full."""
        client = self.cleanup.enter_context(socket.socket())
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(60)
        client.connect(self.socket.getsockname())
        return client

    def request(self) -> int:
        """Polls until a request comes; returns the handle of its connection."""
        while True:
            found = lib.ss_loop_poll(self.loop.core, 20 * SECOND)
            assert found >= 0, found
            assert lib.ss_verify(self.loop.core) == ffi.NULL
            if found & 0xFFFF:
                listener, handle, _, _ = ffi.unpack(lib.ss_loop_requests(self.loop.core), lib.SS_REQUEST_WORDS)
                assert found & 0xFFFF == 1 and listener == self.number
                return int(handle)

    def target(self, handle: int) -> bytes:
        """The target of a request that is new to the listener."""
        head = ffi.new("ss_http1 *")
        data = lib.ss_conn_head(self.loop.core, handle, head)
        assert data != ffi.NULL
        found: bytes = ffi.unpack(data, head.end)[head.target.offset :][: head.target.length]
        return found

    def respond(self, handle: int, body: bytes) -> None:
        """Ends a request."""
        assert lib.ss_conn_send(self.loop.core, handle, OK, len(OK), body, len(body), WHOLE) >= 0
        assert lib.ss_verify(self.loop.core) == ffi.NULL

    def begin(self, handle: int) -> None:
        """Sends the head of a response that ends with the connection."""
        flags = lib.SS_SEND_HEAD | lib.SS_SEND_CLOSE
        assert lib.ss_conn_send(self.loop.core, handle, OK, len(OK), b"", 0, flags) >= 0
