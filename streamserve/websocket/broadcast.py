"""One message to many WebSockets: framed once, sent by one call for each loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.loop.native_threads import get_ident
from streamserve.websocket.connection import WebSocket
from streamserve.websocket.message import encoded

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub
    from streamserve.websocket.deflate import Deflate

__all__ = ["broadcast"]

_TEXT: int = lib.SS_WS_TEXT
_BINARY: int = lib.SS_WS_BINARY


def broadcast(websockets: Iterable[WebSocket], message: str | bytes | bytearray | memoryview) -> int:
    """Sends one message to many, and waits for none: it is framed once, and sent by one call for each loop.

    It is compressed once for all who agreed to that; the others get it as it is.

    Whom more than `websocket_queue` bytes wait for is ended with 1013, or left out, as the setting `websocket_slow`
    says. Those that have ended are passed over. May be called from any native thread.

    Returns:
        How many it was sent to; where other threads serve them, how many it was handed to.

    Raises:
        TypeError: message is neither str nor bytes, or websockets are none; nothing was sent.
    """
    opcode = _TEXT if isinstance(message, str) else _BINARY
    data = encoded(message)
    plain: dict[Hub, list[int]] = {}
    packed: dict[Deflate, dict[Hub, list[int]]] = {}
    _sort(websockets, plain, packed)
    count = _to_all(plain, opcode, data, 0)
    for deflate, by_hub in packed.items():
        count += _to_all(by_hub, opcode, *deflate.pack(data))
    return count


def _sort(websockets: Any, plain: dict[Hub, list[int]], packed: dict[Deflate, dict[Hub, list[int]]]) -> None:
    """Puts the connections that are open to those of their loop and of how they compress."""
    if isinstance(websockets, WebSocket) or not hasattr(websockets, "__iter__"):  # iterated, one gives its messages
        raise TypeError(f"broadcast() sends to several WebSockets, such as a set of them; not to {websockets!r:.100}")
    websocket: Any = None
    try:
        for websocket in websockets:
            if websocket.accepted:
                by_hub = plain if websocket.deflate is None else packed.setdefault(websocket.deflate, {})
                by_hub.setdefault(websocket._sockets.hub, []).append(websocket.handle)
    except AttributeError:
        if websocket.__class__ is WebSocket:
            raise
        raise TypeError(f"broadcast() sends to WebSockets, not to {websocket!r:.100}") from None


def _to_all(by_hub: dict[Hub, list[int]], opcode: int, data: bytes, flags: int) -> int:
    count = 0
    for hub, handles in by_hub.items():
        if hub.thread_ident == get_ident():
            count += _broadcast(hub, handles, opcode, data, flags)
        else:
            hub.run_callback_threadsafe(_broadcast, hub, handles, opcode, data, flags)
            count += len(handles)
    return count


def _broadcast(hub: Hub, handles: list[int], opcode: int, data: bytes, flags: int) -> int:
    frame = lib.ss_ws_frame_new(opcode, data, len(data), flags)
    if frame == ffi.NULL:
        raise MemoryError(f"no memory for a message of {len(data)} bytes")
    try:
        skipped = ffi.new("int64_t *")
        return int(
            lib.ss_ws_broadcast(hub.core, ffi.new("int64_t[]", handles), len(handles), ffi.NULL, 0, frame, skipped)
        )
    finally:
        lib.ss_frame_free(frame)
