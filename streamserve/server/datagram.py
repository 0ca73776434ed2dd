"""DatagramServer: receives datagrams and runs a function for each."""

from __future__ import annotations

import errno
import os
from _socket import SOCK_DGRAM
from _socket import socket as AnySocket
from collections.abc import Callable
from typing import Any, cast

from streamserve.green.socket import socket as GreenSocket
from streamserve.listening.addresses import AddressLike, open_datagram_socket
from streamserve.logs.complaints import Complaints, log
from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.hubs import get_hub
from streamserve.loop.joining import sleep
from streamserve.loop.waiter import yield_turn
from streamserve.server.lifecycle import BaseServer
from streamserve.sync.lock import Semaphore

_HOPELESS = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.ENOTCONN)
"""What recvfrom says when the socket cannot receive any more."""

PAUSE = 0.05
"""Seconds between a failure to receive and the next try."""


class DatagramServer(BaseServer):
    """Calls `handle(data, address)` for each datagram; answer with `sendto`.

    What arrived is received in batches: up to `max_accept` datagrams, then the other greenlets have their turn. While
    the pool is full nothing is received, and what the kernel's buffer cannot hold is lost: that is UDP.

    Args:
        listener, handle, spawn: see BaseServer.

    Attributes:
        max_datagram: bytes; of a longer one the rest is cut off.
        receive_failures: how often receiving failed; each is a line of the log, one a second at most.

    Example:
        >>> server = DatagramServer("127.0.0.1:7000", lambda data, address: server.sendto(data.upper(), address))
        >>> server.serve_forever()
    """

    reuse_addr: bool = False  # on Linux it would let a second server take the datagrams of the first
    max_datagram: int = 65536

    def __init__(self, listener: AddressLike, handle: Callable[..., Any] | None = None, spawn: Any = "default") -> None:
        self._receiver: Greenlet | None = None
        self._bound: AnySocket | None = None
        self._sending = Semaphore()
        self._failures = Complaints()
        super().__init__(listener, handle, spawn)

    @property
    def receive_failures(self) -> int:
        return self._failures.count

    def sendto(self, data: Any, *args: Any) -> int:
        """Sends a datagram, from any greenlet: `sendto(data, address)` or `sendto(data, flags, address)`.

        Raises:
            OSError: it cannot be sent; EBADF: the server is closed.
        """
        socket: Any = self.socket
        if socket is None:
            raise OSError(errno.EBADF, f"{self!r} is closed: nothing can be sent")
        with self._sending:
            return int(socket.sendto(data, *args))

    def start_accepting(self) -> None:
        if self.started and self._receiver is None:
            self._receiver = Greenlet.spawn(self._receive)

    def stop_accepting(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None and receiver is not getcurrent():
            receiver.kill(block=False)

    def close(self) -> None:
        super().close()
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def _open(self, where: AddressLike) -> AnySocket:
        if isinstance(where, GreenSocket) and where.type == SOCK_DGRAM:
            opened: Any = where
        else:  # what was opened is kept: a unix socket takes its file away when it is closed
            self._bound = open_datagram_socket(where, reuse_address=self.reuse_addr)
            opened = GreenSocket(fileno=os.dup(self._bound.fileno()))
        opened.settimeout(None)
        return cast(AnySocket, opened)

    def _leave_to_parent(self) -> None:
        if self._core is not None and not self.started:
            self._receiver = None
        super()._leave_to_parent()

    # ---- receiving

    def _receive(self) -> None:
        hub = get_hub()
        me = getcurrent()
        socket: Any = self.socket
        buffer = bytearray(self.max_datagram)
        view = memoryview(buffer)
        received = 0
        while self._receiver is me:
            while self.full():
                self._spawning.wait_for_room()
            try:
                size, address = socket.recvfrom_into(buffer)
            except OSError as error:
                self._receive_failed(error)
                continue
            self._start_handler(bytes(view[:size]), address)
            received += 1
            if received % self.max_accept == 0:
                hub.budget = 0
                yield_turn(hub)

    def _receive_failed(self, error: OSError) -> None:
        if error.errno in _HOPELESS:
            log.error("%r: receiving failed: %s; others closed the socket, so the server closes", self, error)
            self._receiver = None
            self.close()
        else:
            self._failures.note(f"{self!r}: receiving failed: {error}")
            sleep(PAUSE)

    def _start_handler(self, data: bytes, address: Any) -> None:
        start = self._spawning.start or get_hub().run_callback
        try:
            start(self._serve, data, address, self._handlers.term)
        except Exception as error:
            get_hub().report(error, self)

    def _serve(self, data: bytes, address: Any, term: object) -> None:
        handlers = self._handlers
        if term is not handlers.term:  # the server was stopped before this began
            return
        greenlet = handlers.enter()
        try:
            self.handle(data, address)  # type: ignore[misc]
        finally:
            handlers.leave(greenlet)
            del greenlet  # which keeps the error, whose traceback holds this frame
