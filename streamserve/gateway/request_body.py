"""wsgi.input: the body of a request, read from the core as the application asks.

A read that finds nothing parks the greenlet until bytes come; the core keeps the
deadline. The end of the body gives b"", a broken one raises: a short body is
never taken for a complete one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from streamserve.core import ffi, lib
from streamserve.errors import RemoteProtocolError
from streamserve.gateway.client_faults import known_to_frameworks
from streamserve.gateway.turns import PIECE_COST
from streamserve.loop.hub import Hub

if TYPE_CHECKING:
    from streamserve.gateway.exchange import Exchange

SCRATCH = 65536
"""Most bytes that are taken from the core at once."""

_WAIT: int = lib.SS_WAIT


class BrokenRequestBody(RemoteProtocolError, ConnectionError):
    """The body cannot be read to its end: the client went away, stalled, or broke the framing.

    It is an OSError too, which is what frameworks expect of a client that disconnects.
    """

    def __init__(self, message: str, status: int, refusal: int) -> None:
        RemoteProtocolError.__init__(self, message, status)
        self.refusal = refusal

    def __str__(self) -> str:
        return self.message


class EmptyBody:
    """The input of a request without a body. One serves all: it has no state."""

    def read(self, size: int | None = -1) -> bytes:
        return b""

    readline = read

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        return []

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


EMPTY_BODY = EmptyBody()


class RequestBody:
    """The input of one request; PEP 3333 asks for read, readline, readlines and iteration.

    Args:
        exchange: when it is done, nothing more can be read.
        scratch: a char[SCRATCH] of this thread's: the core fills it without the GIL.
    """

    def __init__(self, exchange: Exchange, hub: Hub, scratch: Any) -> None:
        self._exchange = exchange  # the connection's handle outlives it: the next request has the same
        self._hub = hub
        self._connection = exchange.handle
        self._scratch = scratch
        self._block = b""  # read from the core, and taken by the application up to `_at`
        self._at = 0
        self._ended = False

    def read(self, size: int | None = -1) -> bytes:
        """Returns `size` bytes, fewer only at the end of the body; all of it if size is negative or None.

        Raises:
            BrokenRequestBody: the rest of the body will not come.
        """
        wanted = -1 if size is None or size < 0 else size
        if wanted == 0:
            return b""
        first = self._take(wanted)
        if wanted == len(first) or not first:
            return first
        parts = [first]
        left = wanted - len(first)
        while left:
            part = self._take(left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        """Returns a line with its end, at most `size` bytes of it if size is not negative."""
        left = -1 if size is None or size < 0 else size
        parts: list[bytes] = []
        while left and self._fill():
            end = self._block.find(b"\n", self._at) + 1
            stop = end or len(self._block)
            if 0 <= left < stop - self._at:
                stop = self._at + left
            parts.append(self._block[self._at : stop])
            left -= stop - self._at
            self._at = stop
            if stop == end:
                break
        return b"".join(parts)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Returns the lines of the body; stops after `hint` bytes if hint is positive."""
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _take(self, most: int) -> bytes:
        """At least one byte and at most `most` (negative: a block); b"" at the end."""
        if self._at == len(self._block):
            return self._receive(SCRATCH if most < 0 else min(most, SCRATCH))
        start = self._at
        self._at = len(self._block) if most < 0 else min(start + most, len(self._block))
        return self._block[start : self._at]

    def _fill(self) -> bool:
        """Has `_block` hold something that was not taken yet; False at the end of the body."""
        if self._at == len(self._block):
            self._block = self._receive(SCRATCH)
            self._at = 0
        return self._at < len(self._block)

    def _receive(self, room: int) -> bytes:
        """The next bytes of the body from the core, at most `room`; b"" at its end."""
        if self._ended:
            return b""
        turns = self._exchange.endpoint.turns
        while True:
            if self._exchange.done:
                raise BrokenRequestBody("the request is over: its body can no longer be read", 400, 0)
            if turns.left < 0:  # not after the read: a kill or a Timeout that comes meanwhile would lose its bytes
                turns.take()
                continue
            count = lib.ss_conn_read(self._hub.core, self._connection, self._scratch, room)
            if count > 0:
                turns.left -= count + PIECE_COST
                data: bytes = ffi.unpack(self._scratch, count)
                return data
            if count == 0:
                self._ended = True
                return b""
            if count != _WAIT:
                self._raise_broken()
            self._exchange.endpoint.wait(self._connection)

    def _raise_broken(self) -> NoReturn:
        refusal = lib.ss_conn_broken(self._hub.core, self._connection)
        # What it says is kept, not the error: its traceback holds this frame, which holds the exchange.
        if refusal <= 0:
            self._exchange.broken = ("the client went away before its request body was complete", 400, 0)
        else:
            text = ffi.string(lib.ss_refusal_text(refusal)).decode()
            self._exchange.broken = (f"the request body is broken: {text}", lib.ss_refusal_status(refusal), refusal)
        raise known_to_frameworks(BrokenRequestBody(*self._exchange.broken))  # no name here may hold it: a cycle
