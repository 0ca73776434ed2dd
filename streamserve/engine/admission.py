"""What waits for a client while its connect handler runs.

A client drops what comes for a namespace before the answer to its CONNECT. So what is sent to it there meanwhile, by
the handler or by others, is kept until that answer: behind CONNECT it follows, behind a refusal it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from streamserve.engine.outbox import Outbox
from streamserve.loop.native_threads import RLock

_Frames = Iterable[str | bytes]


class Admission:
    """The clients whose connect handlers run, each with what waits for it.

    Args:
        packet_class: of Socket.IO packets, for the namespace of those that are encoded already.
        limit: bytes that may wait for a client in one namespace.
        overrun: called with the name of a client for which more waited.
    """

    __slots__ = ("_guard", "_limit", "_overrun", "_packet_class", "_waiting")

    def __init__(self, packet_class: Any, limit: int, overrun: Callable[[str], None]) -> None:
        self._packet_class = packet_class
        self._limit = limit
        self._overrun = overrun
        self._waiting: dict[str, dict[str, Outbox]] = {}
        self._guard = RLock()  # native threads emit too; a signal's function may, amid what this does

    def begin(self, eio_sid: str, namespace: str) -> None:
        """A connect handler is about to run."""
        with self._guard:
            self._waiting.setdefault(eio_sid, {})[namespace] = Outbox()

    def end(self, eio_sid: str, namespace: str) -> Collection[str | bytes]:
        """The client is answered, or gone; returns what waits for it. Twice is fine."""
        if eio_sid not in self._waiting:
            return ()
        with self._guard:
            of_client = self._waiting.get(eio_sid, {})
            frames = of_client.pop(namespace, None)
            if not of_client:
                self._waiting.pop(eio_sid, None)
        return () if frames is None else frames

    def clients(self, namespace: str) -> list[str]:
        """Whose connect handlers run for a namespace."""
        if not self._waiting:
            return []
        waiting = [*self._waiting.items()]  # at once: another loop's clients come meanwhile
        return [eio_sid for eio_sid, of_client in waiting if namespace in of_client]

    def keeps(self, eio_sid: str, namespace: str, frames: _Frames) -> bool:
        """Whether they wait now; else they are to be sent."""
        if eio_sid not in self._waiting:
            return False
        with self._guard:
            of_client = self._waiting.get(eio_sid, {})
            waiting = of_client.get(namespace)
            if waiting is None:
                return False
            waiting.put(frames)
            too_much = waiting.bytes > self._limit
            if too_much:
                of_client[namespace] = Outbox()
        if too_much:
            self._overrun(eio_sid)
        return True

    def keeps_encoded(self, eio_sid: str, frame: str | bytes) -> bool:
        """The same for one frame, which tells the namespace; an attachment follows its event."""
        of_client = self._waiting.get(eio_sid)
        if of_client is None:
            return False
        if isinstance(frame, bytes) and self._packet_class.uses_binary_events:
            with self._guard:
                behind = [frames for frames in of_client.values() if frames and _awaits_attachments(frames)]
                for frames in behind:
                    frames.put((frame,))
            return bool(behind)
        encoded = frame[1:] if isinstance(frame, str) else frame
        namespace = self._packet_class(encoded_packet=encoded).namespace or "/"
        return self.keeps(eio_sid, namespace, [frame])


def _awaits_attachments(frames: Outbox) -> bool:
    """Whether the last event has fewer of them behind it than it announces."""
    for behind, frame in enumerate(reversed(frames)):
        if isinstance(frame, str):
            count, dash, _ = frame[2:].partition("-")
            return bool(dash) and count.isdecimal() and behind < int(count)
    return False
