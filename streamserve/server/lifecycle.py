"""BaseServer: what a server of streams and one of datagrams have in common, from the address to the stop."""

from __future__ import annotations

from _socket import socket as AnySocket
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from streamserve.errors import InvalidThreadUseError
from streamserve.listening.addresses import AddressLike, TcpAddress, parse_address
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import ServingWaiter, Waiter
from streamserve.server.handlers import Handlers
from streamserve.server.spawning import Spawning

UNWINDING = 1.0
"""Seconds that killed handlers get for their `finally` blocks."""


class BaseServer:
    """Has an address and a handler, starts, accepts, stops. Use StreamServer or DatagramServer.

    Args:
        listener: where to listen: a bound socket, `(host, port)`, a port, or text: "host:port", ":port", "[::1]:port",
            "unix:/path", "fd://N".
        handle: the function to call; a subclass may define a method `handle` instead.
        spawn: how each call is started: "default": in a Greenlet; a number: likewise, at most so many at once; a Pool;
            a function such as `spawn_raw`; None: in the hub, where nothing may wait.

    Attributes:
        socket: the socket, None while closed.
        address: where it listens, as `getsockname` says it; before the start, as it was given.
        stop_timeout: seconds that `stop` gives handlers, if it is not told.
        max_accept: most connections or datagrams that are taken in one turn of the loop.
        reuse_addr: streams: take a port of which the kernel remembers connections; datagrams: share the port.

    Raises:
        ConfigurationError: listener is no address.
        TypeError, ValueError: handle cannot be called, or spawn says nothing that can be done.
    """

    stop_timeout: float = 1.0
    max_accept: int = 100
    reuse_addr: bool = True
    handle: Callable[..., Any] | None = None

    def __init__(self, listener: AddressLike, handle: Callable[..., Any] | None = None, spawn: Any = "default") -> None:
        if self.max_accept < 1:
            raise ValueError(f"max_accept={self.max_accept} would accept nothing: give a number of 1 or more")
        self.socket: AnySocket | None = None
        self.address: Any = None
        self._where: AddressLike = listener
        self._hub: Hub | None = None
        self._core: Any = None
        self._handlers = Handlers()
        self._spawning = Spawning(spawn)
        self._ends: list[Waiter] = []
        self.set_handle(handle)
        self.set_listener(listener)

    # ---- what it is made of

    def set_listener(self, listener: AddressLike) -> None:
        """Sets where the next start listens.

        Raises:
            RuntimeError: it is listening; close it first.
        """
        if self.started:
            raise RuntimeError(f"{self!r} is listening: stop it before it gets another listener")
        where = parse_address(listener)
        self.socket = listener if isinstance(listener, AnySocket) else None
        self._where = where
        if self.socket is not None:
            self.address = self.socket.getsockname()
        else:
            self.address = (where.host, where.port) if isinstance(where, TcpAddress) else str(where)

    def set_handle(self, handle: Callable[..., Any] | None) -> None:
        """Sets what is called for each connection or datagram from now on; None: the method `handle`."""
        if handle is not None:
            if not callable(handle):
                raise TypeError(f"handle={handle!r} cannot be called: give a function")
            self.handle = handle
        if not callable(self.handle):
            raise TypeError(f"{type(self).__name__} has nothing to call: give handle=, or define a method handle")

    def set_spawn(self, spawn: Any) -> None:
        """Sets how calls are started from now on."""
        self._spawning = Spawning(spawn)

    @property
    def pool(self) -> Any:
        """The Pool that `spawn` was, or that was made for its number; or None."""
        return self._spawning.pool

    @property
    def server_host(self) -> str | None:
        """The host of the address; None if it is none of a network."""
        return self.address[0] if isinstance(self.address, tuple) else None

    @property
    def server_port(self) -> int | None:
        """The port of the address, the real one once it listens; None if it is none of a network."""
        return self.address[1] if isinstance(self.address, tuple) else None

    # ---- its state

    @property
    def started(self) -> bool:
        """Whether it listens. A child of fork has to start it again."""
        return self._hub is not None and self._hub.core is self._core

    @property
    def closed(self) -> bool:
        """Whether it has no socket (it may get one by `start`)."""
        return self.socket is None

    @property
    def active(self) -> int:
        """How many handlers run."""
        return len(self._handlers.running)

    def full(self) -> bool:
        """Whether the pool has no place for another handler: then nothing more is accepted."""
        return self._spawning.full()

    # ---- start

    def init_socket(self) -> None:
        """Opens the socket if there is none yet; `start` does it too. A parent does it before it forks workers.

        Raises:
            AddressError: it cannot be opened; the message says why and what to do.
        """
        given = self.socket
        self.socket = self._open(given if given is not None else self._where)
        self.address = self.socket.getsockname()
        if isinstance(self._where, TcpAddress):
            self._where = TcpAddress(self._where.host, self.address[1])  # another start finds the same port

    def start(self) -> None:
        """Begins to listen and to accept; returns at once, and does nothing if it was done before.

        Raises:
            AddressError: the socket cannot be opened; the message says why and what to do.
        """
        if self.started:
            return
        self._leave_to_parent()
        self.init_socket()
        self._hub = get_hub()
        self._core = self._hub.core
        try:
            self.start_accepting()
        except BaseException:
            self.close()
            raise

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Serves until `stop` or `close` is called or the greenlet is interrupted (Ctrl-C); then it stops.

        Args:
            stop_timeout: seconds for the handlers that run then; None: `stop_timeout` of the server.
        """
        self.start()
        waiter = ServingWaiter(get_hub())
        self._ends.append(waiter)
        try:
            waiter.park()
        finally:
            if waiter in self._ends:
                self._ends.remove(waiter)
            self.stop(stop_timeout)

    # ---- end

    def close(self) -> None:
        """Stops listening; handlers that run go on. A listener that was given is closed too.

        Raises:
            InvalidThreadUseError: the server runs in another thread.
        """
        if self.started:
            assert self._hub is not None
            if self._hub.thread_ident != get_ident():
                raise InvalidThreadUseError(
                    f"{self!r} belongs to another thread: use its hub.run_callback_threadsafe(server.stop)"
                )
            self.stop_accepting()
        self._leave_to_parent()
        self._core = None
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        for waiter in self._ends:
            waiter.wake()
        self._ends.clear()

    def stop(self, timeout: float | None = None) -> int:
        """Stops listening, lets the handlers end, and kills those that take longer.

        So it is for every kind of `spawn`, and in a pool for the handlers of this server alone. A handler may call it:
        it is not among those that are waited for. In the hub it returns at once and a greenlet does the rest.

        Args:
            timeout: seconds for the handlers; None: `stop_timeout`.

        Returns:
            How many handlers were killed.
        """
        self.close()
        limit = self.stop_timeout if timeout is None else timeout
        if isinstance(getcurrent(), Hub):
            Greenlet.spawn(self.stop, limit)
            return 0
        killed = 0
        try:
            self._handlers.wait(limit)
        finally:
            killed = self._handlers.cut_off()
        if killed:
            self._handlers.wait(UNWINDING)
        return killed

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # ---- what the kinds of servers do differently

    def start_accepting(self) -> None:
        """Goes on with accepting after `stop_accepting`."""
        raise NotImplementedError

    def stop_accepting(self) -> None:
        """Accepts nothing more for now; what comes waits in the kernel."""
        raise NotImplementedError

    def _open(self, where: AddressLike) -> AnySocket:
        """Opens the socket, or makes one that was given ready."""
        raise NotImplementedError

    def _leave_to_parent(self) -> None:
        """In a child of fork: the greenlets that run handlers are the parent's, and never run here."""
        if self._core is not None and not self.started:
            self._core = None
            self._handlers = Handlers()
            self._ends = []

    def __repr__(self) -> str:
        where = self.address
        if isinstance(where, tuple):
            where = str(TcpAddress(where[0], where[1]))
        state = "" if self.started else " not listening"
        return f"<{type(self).__name__} {where!s} active={self.active}{state}>"
