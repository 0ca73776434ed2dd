"""What a client is told first: its name, and how it is kept alive (engine.io-protocol 4, "Handshake")."""

from __future__ import annotations

import os
from binascii import b2a_base64
from functools import lru_cache
from typing import TYPE_CHECKING

from streamserve.engine.json_codec import JsonCodec

if TYPE_CHECKING:
    from streamserve.engine.server import EngineServer

__all__ = ["new_name", "open_packet"]

_IN_A_QUERY = bytes.maketrans(b"+/", b"-_")
"""What has a meaning of its own there, and what base64 has in its place (RFC 4648 section 5)."""

_encode = JsonCodec().encode


def new_name() -> str:
    """A name that nobody can guess: 15 random bytes in 20 characters."""
    return b2a_base64(os.urandom(15), newline=False).translate(_IN_A_QUERY).decode()


def open_packet(server: EngineServer, sid: str, transport: str) -> str:
    """The first packet to a client that begins with a transport."""
    change = transport == "polling" and server.allow_upgrades and "websocket" in server.transports
    interval = server.ping_interval + server.ping_interval_grace_period
    rest = _rest(change, int(server.ping_timeout * 1000), int(interval * 1000), server.max_http_buffer_size)
    return f'0{{"sid":{_encode(sid)},{rest}'


@lru_cache(maxsize=64)
def _rest(change: bool, timeout: int, interval: int, most: int) -> str:
    """What it says to every client: whether that may change to WebSocket, milliseconds, bytes."""
    upgrades = ["websocket"] if change else []
    return _encode({"upgrades": upgrades, "pingTimeout": timeout, "pingInterval": interval, "maxPayload": most})[1:]
