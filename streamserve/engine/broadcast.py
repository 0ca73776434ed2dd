"""An event to many clients: framed once, sent by one call of the core."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident

if TYPE_CHECKING:
    from streamserve.engine.server import EngineServer
    from streamserve.engine.session import Frame, Session
    from streamserve.loop.hub import Hub
    from streamserve.websocket.deflate import Deflate

__all__ = ["Targets"]

_TEXT: int = lib.SS_WS_TEXT
_BINARY: int = lib.SS_WS_BINARY

MOST_LEFT_OUT = 16
"""Connections that the core compares each one with; where more are left out, an array without them is made."""


def hub_here(eio: EngineServer) -> Hub | None:
    """The loop in whose thread this is called, None: none serves clients. Other servers may serve some of them."""
    hub = eio.hub
    if hub is None or hub.destroyed:
        return None
    return hub if hub.thread_ident == get_ident() else get_hub()


class Targets:
    """Whom something is sent to: connections of the loop, which the core reaches by one call, and all others.

    Args:
        sessions: the clients.
        hub: of the loop in whose thread this is called, None: of none that serves clients.
        epoch: of the engine, before this was made.
        version: of the room whose clients they are.
    """

    __slots__ = ("_core", "_groups", "_others", "epoch", "hub", "version")

    def __init__(self, sessions: Iterable[Session], hub: Hub | None, epoch: int = 0, version: int = 0) -> None:
        groups: dict[Deflate | None, list[int]] = {}
        self.hub, self.epoch, self.version = hub, epoch, version
        plain = groups[None] = []
        self._others: list[Session] = []
        for session in sessions:
            if session.handle < 0 or session.hub is not hub:
                self._others.append(session)
            elif session.deflate is None:
                plain.append(session.handle)
            else:
                groups.setdefault(session.deflate, []).append(session.handle)
        self._core: Any = None if hub is None else hub.core
        self._groups = [
            (deflate, ffi.new("int64_t[]", handles), len(handles)) for deflate, handles in groups.items() if handles
        ]

    def send(self, frames: Sequence[Frame], left_out: Collection[Session] = ()) -> None:
        """Sends frames to all but some, with no other ones in between; waits for nobody."""
        for deflate, handles, count in self._groups:
            but = [session.handle for session in left_out if session.handle >= 0 and session.deflate is deflate]
            if len(but) > MOST_LEFT_OUT:
                handles, but = ffi.new("int64_t[]", _without(ffi.unpack(handles, count), but)), []
                count = len(handles)
            skip = ffi.new("int64_t[]", but)
            self._broadcast(deflate, handles, count, skip, frames)
        for session in self._others:
            if session not in left_out:
                session.send_frames(frames)

    def _broadcast(self, deflate: Deflate | None, handles: Any, count: int, skip: Any, frames: Sequence[Frame]) -> None:
        shared = _framed(frames, deflate)
        try:
            lib.ss_ws_broadcast(self._core, handles, count, skip, len(skip), shared, ffi.new("int64_t *"))
        finally:
            lib.ss_frame_free(shared)


def _framed(frames: Sequence[Frame], deflate: Deflate | None) -> Any:
    """An event and its attachments as one frame for the core: who gets a part of them gets all."""
    if len(frames) == 1:
        return _framed_alone(frames[0], deflate)
    parts: list[Any] = []
    try:
        for frame in frames:
            parts.append(_framed_alone(frame, deflate))
        joined = lib.ss_frames_join(ffi.new("ss_frame *[]", parts), len(parts))
    finally:
        for part in parts:
            lib.ss_frame_free(part)
    if joined == ffi.NULL:
        raise MemoryError(f"no memory for an event with {len(frames) - 1} attachments")
    return joined


def _framed_alone(frame: Frame, deflate: Deflate | None) -> Any:
    data, opcode, flags = (frame, _BINARY, 0) if isinstance(frame, bytes) else (frame.encode(), _TEXT, 0)
    if deflate is not None:
        data, flags = deflate.pack(data)
    shared = lib.ss_ws_frame_new(opcode, data, len(data), flags)
    if shared == ffi.NULL:
        raise MemoryError(f"no memory for a message of {len(data)} bytes")
    return shared


def _without(handles: list[int], but: list[int]) -> list[int]:
    left_out = set(but)
    return [handle for handle in handles if handle not in left_out]
