"""The WebSockets of one listener, and how the hub hands them the messages of a poll."""

from __future__ import annotations

from itertools import pairwise
from sys import getrefcount
from typing import TYPE_CHECKING, Any
from weakref import getweakrefcount

from streamserve.core import ffi, lib
from streamserve.loop.identities import assume, give_back, part
from streamserve.websocket.deflate import Packed
from streamserve.websocket.message import Close

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub
    from streamserve.loop.ports import Port
    from streamserve.loop.waiter import Runner
    from streamserve.websocket.connection import WebSocket

_TEXT: int = lib.SS_WS_TEXT
_BINARY: int = lib.SS_WS_BINARY
_CLOSE: int = lib.SS_WS_CLOSE
_COMPRESSED: int = lib.SS_WS_COMPRESSED
_SHIFT: int = lib.SS_WS_LENGTH_SHIFT
_TEXT_END = ffi.buffer(lib.ss_ws_text_end)[:].decode("ascii")
_WORDS: int = lib.SS_MESSAGE_WORDS
_EVENT: int = lib.SS_ENGINE_EVENT
_ACK: int = lib.SS_ENGINE_ACK
_OFFSET: int = lib.SS_ENGINE_OFFSET_MASK
_HEAD: int = lib.SS_ENGINE_HEAD_MASK
_HEAD_SHIFT: int = lib.SS_ENGINE_HEAD_SHIFT
_ID_SHIFT: int = lib.SS_ENGINE_ID_SHIFT


class Sockets:
    """The WebSockets of one listener, and how the hub hands them their messages.

    Args:
        port: of the listener: who waits for a connection to drain does so there.
        high_water: queued bytes at which a writer waits.

    Attributes:
        open: connection → its WebSocket, or the guest to which that was handed over: it has `_handler` and `_busy`,
            both true, and its `handled` gets every message in a runner. An event of Socket.IO comes to it as
            a tuple: kind (SS_ENGINE_EVENT, SS_ENGINE_ACK), ack id (-1: none), namespace, JSON; or as the arguments
            of its `event`: the same, with where the JSON begins and ends in a longer text.
        receiving: the connections among them whose messages are for `receive`.
    """

    def __init__(self, port: Port, high_water: int) -> None:
        self.hub: Hub = port.hub
        self.core = port.hub.core
        self.high_water = high_water
        self.open: dict[int, WebSocket] = {}
        self.receiving: set[int] = set()
        self._port = port
        self._payloads: memoryview | None = None

    def drain(self, handle: int) -> int:
        """Waits until most of what is queued has left; returns the bytes still queued, below zero: it has ended."""
        self._port.send_now(handle)
        while (queued := int(lib.ss_ws_queued(self.core, handle))) > self.high_water // 4:
            self._port.wait(handle)
        return queued

    def messages(self, words: list[int]) -> None:
        """Takes the records of one poll, in the hub; see SS_MESSAGE_WORDS."""
        small = self._small(words)
        text = small.decode("ascii") if small.isascii() else None  # a part of it is a message
        find, handled = self.open.get, []
        stream = iter(words)
        for _, handle, word, offset in zip(stream, stream, stream, stream, strict=True):
            websocket = find(handle)
            if websocket is None:
                continue
            if offset < 0:
                data = ffi.buffer(lib.ss_ws_take(self.core, handle), word >> _SHIFT)
                message = self._message(word & 0xFF, data, handle)
            elif text is not None and word & 0xFF == _TEXT:
                message = text[offset : offset + (word >> _SHIFT)]
            elif _EVENT <= word & 0xFF <= _ACK:
                message = self._event(word, offset, small if text is None else text)
            else:
                message = self._message(word & 0xFF, small[offset : offset + (word >> _SHIFT)], handle)
            if websocket._handler is None:
                websocket.arrived(message)
            else:
                handled.append((websocket, message))
        if handled:
            self.deliver(handled)

    def messages_alike(self, opcode: int, words: memoryview) -> bool:
        """Has a runner hand out the messages of a poll, cut out at once: less work for each; see Port.

        Returns:
            False: text beyond ASCII, or with ss_ws_text_end in it, is among them, or a message for `receive`.
        """
        handles = words[1::_WORDS].tolist()
        if self.receiving and not self.receiving.isdisjoint(handles):
            return False
        websockets = list(map(self.open.get, handles))
        length = (words[-1] & _OFFSET) + (words[-2] >> _SHIFT)
        if opcode == _BINARY:
            data, offsets = self._first(length), words[3::_WORDS].tolist()
            payloads: list[Any] = [data[begin:end] for begin, end in pairwise([*offsets, length])]
        else:
            try:
                text = str(self._view()[:length], "ascii")
            except UnicodeDecodeError:  # its offsets are no characters
                return False
            if opcode == _EVENT:
                events = zip(websockets, words[2::_WORDS].tolist(), words[3::_WORDS].tolist(), strict=True)
                self.hub.ready.append((self._run_events, text, events, len(handles) > 1))
                return True
            payloads = text.split(_TEXT_END)
            if len(payloads) != len(handles):
                return False
        self.hub.ready.append((self._run_alike, zip(websockets, payloads, strict=True), len(handles) > 1))
        return True

    def _run_events(self, item: Any, runner: Runner) -> None:
        """As _run_alike, for events of Socket.IO: their connections are all handed over."""
        ready = self.hub.ready
        ready.appendleft(item)
        _, payloads, events, several = item
        identities = self.hub.identities
        parts = not identities.keeps_context
        alone, attributes = runner.alone + 1, runner.attributes
        if identities.idle:
            assume(runner)
        for guest, word, place in events:
            if guest is None:
                continue
            at = place & _OFFSET
            head = place >> _HEAD_SHIFT & _HEAD
            namespace = payloads[at - head : at].partition(",")[0] if head else "/"
            guest.event(_EVENT, (place >> _ID_SHIFT) - 1, namespace, payloads, at, at + (word >> _SHIFT))
            if runner.task is not None or parts:
                part(runner)
            if several and (getrefcount(runner) != alone or getweakrefcount(runner) or attributes):
                break
        else:
            if ready and ready[0] is item:
                ready.popleft()
        if runner.identity is not None or runner.gr_context is not None:
            give_back(runner)

    def _run_alike(self, item: Any, runner: Runner) -> None:
        """As _run_handlers, where `handled` would be a call more for each."""
        ready = self.hub.ready
        ready.appendleft(item)
        _, messages, several = item
        identities = self.hub.identities
        parts = not identities.keeps_context
        alone, attributes = runner.alone + 1, runner.attributes
        if identities.idle:
            assume(runner)
        for websocket, message in messages:
            if websocket is None:
                continue
            if websocket._busy or websocket.close_code is not None:
                websocket.handled(message)
            else:
                websocket._busy = True
                try:
                    websocket._handler.on_message(message)
                except BaseException as error:
                    websocket.failed(error)
                websocket._busy = False
                if websocket._inbox is not None:
                    websocket.finished()
            if runner.task is not None or parts:
                part(runner)
            if several and (getrefcount(runner) != alone or getweakrefcount(runner) or attributes):
                break
        else:
            if ready and ready[0] is item:
                ready.popleft()
        if runner.identity is not None or runner.gr_context is not None:
            give_back(runner)

    def _small(self, words: list[int]) -> bytes:
        """The payloads of all small messages of a poll."""
        for at in range(len(words) - 1, 0, -_WORDS):
            if words[at] >= 0:
                return self._first((words[at] & _OFFSET) + (words[at - 1] >> _SHIFT))
        return b""

    def _first(self, length: int) -> bytes:
        """The first bytes of all payloads of a poll: taken at once, they cost little each."""
        return bytes(self._view()[:length])

    def _view(self) -> memoryview:
        """All that there is room for, which the next poll overwrites."""
        if self._payloads is None:
            self._payloads = memoryview(ffi.buffer(lib.ss_ws_payloads(self.core), lib.SS_WS_PAYLOAD_BYTES))
        return self._payloads

    def _event(self, word: int, place: int, payloads: Any) -> tuple[int, int, str, str]:
        """An event of Socket.IO, which the core has told apart; see SS_ENGINE_OFFSET_MASK."""
        at = place & _OFFSET
        body = payloads[at : at + (word >> _SHIFT)]
        namespace = "/"
        head = place >> _HEAD_SHIFT & _HEAD
        if head:
            namespace = payloads[at - head : at]
            if namespace.__class__ is bytes:
                namespace = namespace.decode()
            namespace = namespace.partition(",")[0]
        return word & 0xFF, (place >> _ID_SHIFT) - 1, namespace, body if body.__class__ is str else body.decode()

    def _message(self, opcode: int, data: Any, handle: int) -> Any:
        if opcode == _TEXT:
            return str(data, "utf-8")
        if opcode == _BINARY:
            return bytes(data)
        if opcode == _CLOSE:
            del self.open[handle]  # it is the last
            self.receiving.discard(handle)
            return Close(bytes(data))
        return Packed(bytes(data), opcode & ~_COMPRESSED == _TEXT)

    def deliver(self, messages: list[tuple[WebSocket, Any]]) -> None:
        """Has a runner give messages to their handlers."""
        self.hub.ready.append((self._run_handlers, iter(messages), len(messages) > 1))

    def deliver_first(self, messages: list[tuple[WebSocket, Any]]) -> None:
        """The same, before all else that is ready: these came before what was delivered meanwhile."""
        self.hub.ready.appendleft((self._run_handlers, iter(messages), len(messages) > 1))

    def _run_handlers(self, item: Any, runner: Runner) -> None:
        """One after another without a switch; where one waits, another runner goes on (see Endpoint._drain)."""
        ready = self.hub.ready
        ready.appendleft(item)
        identities = self.hub.identities
        parts = not identities.keeps_context
        several = item[-1]
        if identities.idle:
            assume(runner)
        for websocket, message in item[1]:
            websocket.handled(message)
            if runner.task is not None or parts:
                part(runner)
            if several and (getrefcount(runner) != runner.alone + 1 or getweakrefcount(runner) or runner.attributes):
                break
        else:
            if ready and ready[0] is item:
                ready.popleft()
        if runner.identity is not None or runner.gr_context is not None:
            give_back(runner)

    def close(self) -> None:
        """The listener is closed, and its connections with it."""
        handled = []
        for websocket in self.open.values():
            close = Close(lib.SS_WS_ABNORMAL.to_bytes(2, "big"))
            if websocket._handler is None:
                websocket.arrived(close)
            else:
                handled.append((websocket, close))
        self.open.clear()
        self.receiving.clear()
        if handled:
            self.deliver(handled)
