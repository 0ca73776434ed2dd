"""StreamServer: accepts connections and runs a function for each.

The core accepts. It reports a batch of new descriptors with a poll, together
with their peers' addresses (which getpeername would not know any more once a
client has gone), and it accepts only as many as it was allowed to: `max_accept`
in a turn, or what the pool has places for. So a full pool leaves the next client
in the kernel's backlog, where another process may take it. Out of descriptors,
the core refuses one client a second and pauses; a handler that ends and gives
its descriptor back ends the pause.
"""

from __future__ import annotations

import errno
import os
from _socket import socket as AnySocket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.green.socket import socket as GreenSocket
from streamserve.listening.addresses import AddressLike, open_listener
from streamserve.logs.complaints import Complaints, log
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.ports import Port
from streamserve.server.lifecycle import BaseServer
from streamserve.server.peers import Peers

if TYPE_CHECKING:
    from streamserve.tls.encryption import Encryption

_HOPELESS = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP)
"""What accept says when the listener is none any more."""
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class StreamServer(BaseServer):
    """Calls `handle(socket, address)` for each connection.

    The socket is closed when the handler returns or raises; a handler therefore returns only when nobody uses it any
    more. Its errors go to `hub.handle_error` and end nothing else. While the pool is full nothing is accepted.

    Args:
        listener, handle, spawn: see BaseServer.
        backlog: connections that the kernel keeps until they are accepted; None: 2048.
        **tls: ssl_context=, or certfile= and keyfile= and others of Encryption: then connections are encrypted, and
            `handle` gets an SSLSocket whose handshake is done.

    Attributes:
        handshake_timeout: seconds that a client's handshake may take.
        handshake_failures: how many handshakes failed; each is one line of the log, one a second at most.
        accept_failures: how often accepting paused, for want of descriptors for example.

    Raises:
        ConfigurationError: listener is no address, or a certificate cannot be used.
        TypeError, ValueError: as BaseServer, or an argument of TLS is unknown.

    Example:
        >>> def echo(socket, address):
        ...     while data := socket.recv(65536):
        ...         socket.sendall(data)
        >>> StreamServer("127.0.0.1:7000", echo).serve_forever()
    """

    backlog: int = 2048
    handshake_timeout: float = 10.0

    def __init__(
        self,
        listener: AddressLike,
        handle: Callable[..., Any] | None = None,
        backlog: int | None = None,
        spawn: Any = "default",
        **tls: Any,
    ) -> None:
        if backlog is not None:
            self.backlog = backlog
        self._port: StreamPort | None = None
        self._number = -1
        self._allowed = 0
        self._paused = False  # the core pauses, out of descriptors
        self._waiting: deque[tuple[Any, Any]] = deque()
        self._usher: Greenlet | None = None
        self._refused_handshakes = Complaints()
        self._failed_accepts = Complaints()
        super().__init__(listener, handle, spawn)
        self._encryption = _encryption(tls) if tls else None

    @property
    def ssl_enabled(self) -> bool:
        """Whether connections are encrypted."""
        return self._encryption is not None

    @property
    def handshake_failures(self) -> int:
        return self._refused_handshakes.count

    @property
    def accept_failures(self) -> int:
        return self._failed_accepts.count

    def set_listener(self, listener: AddressLike) -> None:
        if hasattr(listener, "do_handshake"):
            raise TypeError(f"{listener!r} is encrypted already: give the plain socket, and ssl_context=")
        super().set_listener(listener)

    def set_spawn(self, spawn: Any) -> None:
        super().set_spawn(spawn)
        if self._number >= 0:
            self._dismiss_usher()
            self._allow()

    def _open(self, where: AddressLike) -> AnySocket:
        return open_listener(where, self.backlog, reuse_address=self.reuse_addr)

    # ---- accepting

    def start_accepting(self) -> None:
        hub = self._hub
        if self._number >= 0 or not self.started or hub is None or self.socket is None:
            return
        config = ffi.new("ss_listener_config *")
        lib.ss_listener_defaults(config)
        config.raw = 1
        number = lib.ss_listener_open(hub.core, self.socket.fileno(), config)
        if number < 0:
            code = lib.ss_loop_errno(hub.core)
            raise OSError(code, f"cannot accept on {self!r}: {os.strerror(code)}")
        self._number = number
        self._peers = Peers(hub.core, self.socket)
        self._port = StreamPort(hub, self)
        self._port.open(number)
        self._allow()

    def stop_accepting(self) -> None:
        hub = self._hub
        if self._number < 0 or hub is None:
            return
        number, self._number = self._number, -1
        self._paused = False
        if hub.core is self._core:
            lib.ss_listener_close(hub.core, number)
            if self._port is not None:
                self._port.close()

    def close(self) -> None:
        super().close()
        self._number = -1
        self._dismiss_usher()
        self._dismiss_waiting()

    def _leave_to_parent(self) -> None:
        if self._core is not None and not self.started:
            self._number = -1
            self._usher = None
            self._dismiss_waiting()
        super()._leave_to_parent()

    def _allow(self) -> None:
        """Tells the core how many connections it may accept; where there is no room, somebody waits for it."""
        self._allowed = 0 if self._waiting else self._spawning.room(self.max_accept)
        lib.ss_listener_allow(self._core, self._number, self._allowed)
        if not self._allowed and self._usher is None:
            self._usher = Greenlet.spawn(self._wait_for_room)

    def _dismiss_usher(self) -> None:
        if self._usher is not None:
            self._usher.kill(block=False)
            self._usher = None

    def _dismiss_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft()[0].close()

    def _wait_for_room(self) -> None:
        while self._waiting or not self._allowed:
            self._spawning.wait_for_room()
            while self._waiting and not self.full():
                self._start_handler(*self._waiting.popleft(), self._handlers.term)
            if not self._waiting:
                self._allowed = self._spawning.room(self.max_accept)
        self._usher = None
        if self._number >= 0:
            lib.ss_listener_allow(self._core, self._number, self._allowed)

    # ---- what the port is told

    def _accepted(self, fd: int, place: int) -> None:
        """Called by its port, among the events of a poll: it must not run code of others."""
        try:
            connection = GreenSocket.adopt(fd, self.socket)  # type: ignore[attr-defined]
        except BaseException:
            os.close(fd)
            raise
        address = self._peers.address(place)
        if self._waiting or self.full():  # the pool is shared, and somebody else took the place
            self._waiting.append((connection, address))
            self._allowed = 0
        elif self._spawning.known:
            self._start_handler(connection, address, self._handlers.term)
        else:
            get_hub().run_callback(self._start_handler, connection, address, self._handlers.term)
        self._allowed -= 1
        if self._allowed <= 0:
            self._allow()

    def _start_handler(self, connection: Any, address: Any, term: object) -> None:
        start = self._spawning.start
        try:
            if start is None:
                self._serve(connection, address, term)
            else:
                start(self._serve, connection, address, term)
        except Exception as error:
            connection.close()
            get_hub().report(error, self)
        except BaseException:
            connection.close()
            raise

    def _accept_failed(self, code: int) -> None:
        """Called by its port: accepting failed with this errno."""
        text = f"{self!r}: accepting failed: {os.strerror(code)}"
        if code in _HOPELESS:
            log.error("%s; the listening socket was closed or shut down by others, so the server closes", text)
            get_hub().run_callback(self.close)
            return
        self._paused = code in _OUT_OF_DESCRIPTORS
        remedy = "; raise the limit of open files (ulimit -n)" if self._paused else ""
        self._failed_accepts.note(f"{text}; it pauses for a second{remedy}")

    # ---- one connection

    def _serve(self, connection: Any, address: Any, term: object) -> None:
        handlers = self._handlers
        if term is not handlers.term:  # the server was stopped before this began
            connection.close()
            return
        greenlet = handlers.enter()
        try:
            if self._encryption is None:
                self.handle(connection, address)  # type: ignore[misc]
            else:
                self._serve_encrypted(self._encryption, connection, address)
        finally:
            connection.close()
            handlers.leave(greenlet)
            del greenlet  # which keeps the error, whose traceback holds this frame
            if self._paused and self._number >= 0:
                self._paused = False
                lib.ss_listener_allow(self._core, self._number, self._allowed)

    def _serve_encrypted(self, encryption: Encryption, connection: Any, address: Any) -> None:
        try:
            encrypted = encryption.accept(connection, self.handshake_timeout)
        except (OSError, ValueError) as error:
            self._refused_handshakes.note(f"{self!r}: TLS handshake with {address!r} failed: {error}")
            return
        try:
            self.handle(encrypted, address)  # type: ignore[misc]
            encryption.say_goodbye(encrypted)
        finally:
            encrypted.close()


class StreamPort(Port):
    """The port of a StreamServer's listener."""

    __slots__ = ("_server",)

    def __init__(self, hub: Hub, server: StreamServer) -> None:
        super().__init__(hub)
        self._server = server

    def accepted(self, fd: int, place: int) -> None:
        self._server._accepted(fd, place)

    def failed(self, code: int) -> None:
        self._server._accept_failed(code)


def _encryption(arguments: dict[str, Any]) -> Encryption:
    from streamserve.tls.encryption import Encryption  # OpenSSL is loaded only where it is asked for

    return Encryption(**arguments)
