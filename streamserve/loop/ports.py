"""Port: what the hub tells of one listener and of its connections.

Every such event names its listener, and `hub.ports` has who looks after it. A
listener's room (gateway/, server/) makes a subclass; the hub knows no protocol.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from streamserve.core import lib
from streamserve.loop.waiter import Waiter

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

_ACCEPTED: int = lib.SS_EVENT_ACCEPTED
_REFUSED: int = lib.SS_EVENT_REFUSED
_FAILED: int = lib.SS_EVENT_ACCEPT_FAILED
_TLS: int = lib.SS_EVENT_TLS
_LEFT: int = lib.SS_EVENT_LEFT


class Port:
    """Takes the events of one listener; a subclass takes those that it can have.

    The hub calls its methods among the events of a poll: they must not wait, nor run code of an application. An
    exception is reported, and nothing else of that poll is lost.

    Attributes:
        hub: where it is registered.
        number: the listener, as `ss_listener_open` gave it.
        waiters: connection → the Waiter of the greenlet that reads its body or drains its output.
        closed: it takes nothing more, though an event may be on its way.
    """

    __slots__ = ("closed", "hub", "number", "waiters")

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.number = -1
        self.waiters: dict[int, Waiter] = {}
        self.closed = False

    def open(self, number: int) -> None:
        """Takes the events of a listener from now on."""
        self.number = number
        self.hub.ports[number] = self

    def close(self) -> None:
        """Takes nothing more, and wakes who waits; call it when the core has closed the listener. Twice is fine."""
        self.closed = True
        if self.hub.ports.get(self.number) is self:  # else: a child of fork, or another listener has the number now
            del self.hub.ports[self.number]
        for waiter in self.waiters.values():
            waiter.wake()
        self.waiters.clear()

    def abandon(self) -> dict[int, Waiter]:
        """In a child of fork: gives away who waits, for they are the parent's and must not be woken here."""
        waiters, self.waiters = self.waiters, {}
        return waiters

    # ---- greenlets that wait for a connection

    def wait(self, connection: int) -> None:
        """Parks the current greenlet until the core tells something of a connection, or its request ends.

        A greenlet may read the body while another one sends: whoever parks last is told, and tells the
        one before it. So a return means no more than: look again.
        """
        waiters = self.waiters
        before = waiters.get(connection)
        waiter = waiters[connection] = Waiter(self.hub)
        try:
            waiter.park()
        finally:
            if waiters.get(connection) is waiter:
                del waiters[connection]
            if before is not None:
                before.wake()

    def resume(self, connection: int) -> None:
        """Wakes who waits for a connection, if somebody does."""
        waiter = self.waiters.pop(connection, None)
        if waiter is not None:
            waiter.wake()

    # ---- events

    def tell(self, kind: int, handle: int, value: int) -> None:
        """Hands an event to the method for its kind; see enum ss_event in api/loop.h."""
        if self.closed:
            if kind == _ACCEPTED:
                os.close(handle)
        elif kind == _TLS:
            self.asked(handle, value)
        elif kind == _LEFT:
            self.left(handle)
        elif kind == _ACCEPTED:
            self.accepted(handle, value)
        elif kind == _REFUSED:
            self.refused(handle, value)
        elif kind == _FAILED:
            self.failed(value)

    def requests(self, words: list[int], count: int) -> None:
        """Requests are complete: `count` records of SS_REQUEST_WORDS words."""

    def messages(self, words: list[int]) -> None:
        """Messages of WebSockets: records of SS_MESSAGE_WORDS words, whose payloads the next poll overwrites."""

    def messages_alike(self, opcode: int, words: memoryview) -> bool:
        """The same, where all of them are SS_WS_TEXT, or all SS_WS_BINARY; see ss_ws_alike.

        Returns:
            False: it has not taken them, and is to be given them by `messages`.
        """
        return False

    def send_now(self, connection: int) -> None:
        """A greenlet is about to park until a connection has sent what is queued: TLS must encrypt it first."""

    def accepted(self, fd: int, place: int) -> None:
        """A raw listener accepted a connection: `fd` is the port's; `place` is that of its peer (server/peers.py)."""
        os.close(fd)

    def refused(self, peer: int, refusal: int) -> None:
        """The core refused a request for the reason `refusal`; `peer` is for `ss_loop_refused`."""

    def failed(self, code: int) -> None:
        """Accepting failed with this errno; the core tries again in a second."""

    def left(self, connection: int) -> None:
        """The client of a request that is with Python has left."""

    def asked(self, connection: int, wants: int) -> None:
        """The bytes of a connection are to pass through TLS: enum ss_tls_want."""


class NoPort(Port):
    """Stands for the port of a listener that was closed among the events of a poll: what comes of it is dropped."""

    __slots__ = ()

    def __init__(self) -> None:
        self.waiters = {}
        self.closed = True


NO_PORT = NoPort()
