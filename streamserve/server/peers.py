"""The addresses of peers, as accept told them to the core."""

from __future__ import annotations

import socket
import struct
from _socket import inet_ntop
from _socket import socket as AnySocket
from typing import Any

from streamserve.core import ffi, lib

_BYTES: int = lib.SS_PEER_BYTES
_IPV4 = struct.Struct("!2xH4s")
_IPV6 = struct.Struct("!2xHI16sI")


class Peers:
    """Reads the addresses of the connections that one poll accepted, in the form in which `accept` returns them.

    Args:
        core: the loop.
        listener: of the connections.
    """

    __slots__ = ("_family", "_records")

    def __init__(self, core: Any, listener: AnySocket) -> None:
        self._family = listener.family
        self._records = memoryview(ffi.buffer(lib.ss_loop_peers(core), lib.SS_PEERS * _BYTES))

    def address(self, place: int) -> Any:
        """Returns the address of the peer that an SS_EVENT_ACCEPTED has at this place; only until the next poll."""
        start = place * _BYTES
        if self._family == socket.AF_INET:
            port, host = _IPV4.unpack_from(self._records, start)
            return inet_ntop(socket.AF_INET, host), port
        if self._family == socket.AF_INET6:
            port, flow, host, scope = _IPV6.unpack_from(self._records, start)
            return inet_ntop(socket.AF_INET6, host), port, flow, socket.ntohl(scope)
        return ""
