"""The event loop of a hub: the core, and who is told of its events.

All that a fork renews is in this one object: the child's hub gets a new one, and
the parent's is kept out of reach, for freeing a greenlet that is parked there
would run its `finally` blocks in the child too.

All events of one poll are turned into entries of `ready` before anything runs,
so a timer slot or handle named by an event still means what it meant when C
wrote it. The core tells of each event once: one that fails is reported, and the
others are taken all the same.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from greenlet import greenlet as RawGreenlet

from streamserve.core import ffi, lib
from streamserve.loop.ports import NO_PORT, Port
from streamserve.loop.waiter import Waiter

if TYPE_CHECKING:
    from streamserve.loop.callback import Callback
    from streamserve.loop.hub import Hub

_REQUEST_WORDS: int = lib.SS_REQUEST_WORDS
_EVENT_WORDS: int = lib.SS_EVENT_WORDS
_MESSAGE_WORDS: int = lib.SS_MESSAGE_WORDS
_TIMER: int = lib.SS_EVENT_TIMER
_FD: int = lib.SS_EVENT_FD
_WOKEN: int = lib.SS_EVENT_WOKEN
_END_OF_WAIT = (lib.SS_EVENT_BODY, lib.SS_EVENT_DRAINED)
_LISTENER_SHIFT: int = lib.SS_EVENT_LISTENER_SHIFT
_KIND = (1 << _LISTENER_SHIFT) - 1
_ONE_EVENT = 1 << 16

BACKENDS = {"auto": lib.SS_BACKEND_EPOLL, "epoll": lib.SS_BACKEND_EPOLL, "poll": lib.SS_BACKEND_POLL}
"""The core's backends by the names that users give them."""


class EventLoop:
    """One loop of the core and its tables; a hub has its busiest tables as its own attributes.

    Args:
        backend: auto, epoll or poll.

    Attributes:
        core: the `ss_loop` of the C core.
        timers: slot of a core timer → object whose `fire()` is called at its end.
        fd_watchers: handle of a descriptor → what to call with the directions that became ready.
        ports: listener → the Port that takes its events and those of its connections.
        interrupts: greenlet → the errors that are raised where it next parks; main's: also signals (Arrival).
        other_threads: what other threads and signal handlers want called.
        idle_waiters: who waits until nothing is left to happen.
        taken: the events of the last poll are taken, or being taken.

    Raises:
        OSError: the core cannot start, for want of descriptors or memory.
    """

    __slots__ = (
        "_event_words",
        "_fired",
        "_left",
        "_message_words",
        "_request_words",
        "core",
        "fd_watchers",
        "idle_waiters",
        "interrupts",
        "level_triggered",
        "other_threads",
        "ports",
        "taken",
        "timers",
    )

    def __init__(self, backend: str) -> None:
        core = lib.ss_loop_new(BACKENDS[backend])
        if core == ffi.NULL:
            raise OSError(ffi.errno, f"the event loop cannot start: {os.strerror(ffi.errno)}")
        self.core = ffi.gc(core, lib.ss_loop_free)  # a server may hold it longer than this hub lives
        self.level_triggered = ffi.string(lib.ss_loop_backend(core)) != b"epoll"
        self._request_words = _view(lib.ss_loop_requests(core), lib.SS_BATCH * _REQUEST_WORDS)
        self._event_words = _view(lib.ss_loop_events(core), lib.SS_EVENTS * _EVENT_WORDS)
        self._fired: deque[Any] = deque()
        self._left: Any = None
        self._message_words: Any = None  # the core has them from the first WebSocket on
        self.timers: dict[int, Any] = {}
        self.fd_watchers: dict[int, Callable[[int], Any]] = {}
        self.ports: dict[int, Port] = {}
        self.interrupts: dict[RawGreenlet, list[Any]] = {}
        self.other_threads: deque[Callback] = deque()
        self.idle_waiters: list[Waiter] = []
        self.taken = True

    def leave(self, *others: Any) -> None:
        """In a child of fork: lets go of the parent's core, and keeps alive what its tables and `others` hold."""
        self._left = others, [port.abandon() for port in self.ports.values()]
        lib.ss_loop_abandon(self.core)

    # ---- the events of a poll

    def take(self, hub: Hub, found: int) -> None:
        """Queues in the hub what the events of a poll wake; `found` is what `ss_loop_poll` returned, above zero."""
        if found == _ONE_EVENT:
            words = self._event_words
            if words[0] == _FD:  # a request and its answer on a quiet server: spare the list
                try:
                    self.fd_watchers[words[1]](words[2])
                except BaseException as error:
                    hub.report(error, hub)
                return
        count = found >> 16 & 0xFFFF
        if count:
            stream = iter(self._event_words[: count * _EVENT_WORDS].tolist())
            events = zip(stream, stream, stream, strict=True)
            while not self._take_events(hub, events):
                pass
        count = found & 0xFFFF
        if count:
            self._admit(hub, self._request_words[: count * _REQUEST_WORDS].tolist(), count)
        count = found >> 32
        if count:
            if self._message_words is None:
                self._message_words = _view(lib.ss_loop_messages(self.core), lib.SS_MESSAGES * _MESSAGE_WORDS)
            words = self._message_words[: count * _MESSAGE_WORDS]
            opcode = lib.ss_ws_alike(self.core) if count > 1 else 0
            if not opcode or not self._hand_out_alike(hub, opcode, words):
                self._hand_out(hub, words.tolist())
        while self._fired:
            self._fire(hub)

    def _take_events(self, hub: Hub, events: Iterator[tuple[int, int, int]]) -> bool:
        """False if one of them failed: the others are still to be taken."""
        timers, fired = self.timers, self._fired
        try:
            for kind, handle, value in events:
                if kind == _TIMER:
                    fired.append(timers.pop(handle, None))
                elif kind == _FD:
                    self.fd_watchers[handle](value)
                elif kind == _WOKEN:
                    while self.other_threads:
                        hub.ready.append(self.other_threads.popleft())
                else:
                    port = self.ports.get(kind >> _LISTENER_SHIFT, NO_PORT)
                    if kind & _KIND in _END_OF_WAIT:
                        port.resume(handle)
                    else:
                        fired.append((port, kind & _KIND, handle, value))
        except BaseException as error:
            hub.report(error, hub)
            return False
        return True

    def _admit(self, hub: Hub, words: list[int], count: int) -> None:
        """Gives requests to the ports of their listeners; where one fails, the others still get theirs."""
        if count > 1 and words[::_REQUEST_WORDS].count(words[0]) < count:
            for start in range(0, count * _REQUEST_WORDS, _REQUEST_WORDS):
                self._admit(hub, words[start : start + _REQUEST_WORDS], 1)
            return
        try:
            self.ports.get(words[0], NO_PORT).requests(words, count)
        except BaseException as error:
            hub.report(error, hub)

    def _hand_out_alike(self, hub: Hub, opcode: int, words: memoryview) -> bool:
        """Gives messages of one kind and one listener to its port. False: it has not taken them."""
        try:
            return self.ports.get(words[0], NO_PORT).messages_alike(opcode, words)
        except BaseException as error:
            hub.report(error, hub)
            return True

    def _hand_out(self, hub: Hub, words: list[int]) -> None:
        """Gives messages to the ports of their listeners; where one fails, the others still get theirs."""
        listeners = words[::_MESSAGE_WORDS]
        if listeners.count(words[0]) < len(listeners):
            for start in range(0, len(words), _MESSAGE_WORDS):
                self._hand_out(hub, words[start : start + _MESSAGE_WORDS])
            return
        try:
            self.ports.get(words[0], NO_PORT).messages(words)
        except BaseException as error:
            hub.report(error, hub)

    def _fire(self, hub: Hub) -> None:
        """Calls what is due. All of it was taken before anything was called: a timer that is started now gets a free
        slot, and the slots of the timers that fired in this poll are free."""
        fired = self._fired
        try:
            while fired:
                target = fired.popleft()
                if target.__class__ is tuple:
                    port, kind, handle, value = target
                    port.tell(kind, handle, value)
                elif target is not None:  # stopped by an earlier event of the same poll
                    target.fire()
        except BaseException as error:
            hub.report(error, hub)


def _view(words: Any, count: int) -> memoryview:
    return memoryview(ffi.buffer(words, count * 8)).cast("B").cast("q")
