"""The hub: one greenlet per native thread that polls the core and runs what is ready.

`ready` is the only queue. It holds three kinds of things:
  - a tuple: an item for a runner (a greenlet's start, a request);
  - a parked greenlet that was woken: the hub switches to it;
  - a Callback: called in the hub itself; must not wait.
Between two polls at most `BUDGET` of them run. The events of one poll are all
turned into entries of `ready` before anything runs, so a timer slot or handle
named by an event still means what it meant when C wrote it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from greenlet import getcurrent
from greenlet import greenlet as RawGreenlet

from streamserve.core import ffi, lib
from streamserve.errors import HubDestroyed, LoopExit
from streamserve.loop.failures import FailureReports
from streamserve.loop.native_threads import forget_threads, others_may_wake
from streamserve.loop.native_threads import get_ident as _get_ident
from streamserve.loop.ports import NO_PORT, Port
from streamserve.loop.runner import run_item
from streamserve.loop.waiter import Runner, Waiter

BUDGET = 256
"""Most ready items that run between two polls."""

THREADPOOL_SIZE = 10
"""Native threads at most in the pool of a hub."""

IDLE_THREAD = 5.0
"""Seconds without work after which such a thread ends."""

RECHECK = 1_000_000_000
"""Nanoseconds after which a hub with nothing to do looks again whether another thread is left to wake it."""

FOREVER = 4e9
"""Seconds, 127 years: a longer wait, also an infinite one, is taken as this."""

_poll = lib.ss_loop_poll
_REQUEST_WORDS: int = lib.SS_REQUEST_WORDS
_EVENT_WORDS: int = lib.SS_EVENT_WORDS
_TIMER: int = lib.SS_EVENT_TIMER
_FD: int = lib.SS_EVENT_FD
_WOKEN: int = lib.SS_EVENT_WOKEN
_IDLE: int = lib.SS_IDLE
_ONE_EVENT = 1 << 16
_SYSTEM: int = lib.SS_SYSTEM
_END_OF_WAIT = (lib.SS_EVENT_BODY, lib.SS_EVENT_DRAINED)
_LISTENER_SHIFT: int = lib.SS_EVENT_LISTENER_SHIFT
_KIND = (1 << _LISTENER_SHIFT) - 1
_BACKENDS = {"auto": lib.SS_BACKEND_EPOLL, "epoll": lib.SS_BACKEND_EPOLL, "poll": lib.SS_BACKEND_POLL}


class Callback:
    """A function that the hub calls in its own greenlet; `stop` before it ran prevents it."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function: Callable[..., Any] | None = function
        self.args = args

    def stop(self) -> None:
        self.function = None
        self.args = ()

    @property
    def pending(self) -> bool:
        return self.function is not None

    def fire(self) -> None:
        """A timer's end: called by the hub among the events, so it only queues itself."""
        get_hub().ready.append(self)


class Hub(RawGreenlet, FailureReports):
    """The loop of one native thread. Get it by `get_hub()`; do not make one.

    Attributes:
        core: the `ss_loop` of the C core.
        ready: what runs next (see the head of this file).
        timers: slot of a core timer → object whose `fire()` is called at its end.
        fd_watchers: handle of a descriptor → what to call with the directions that became ready.
        fd_waits: how many greenlets wait for a descriptor: as long as one does, a poll may block for ever.
        ports: listener → the Port that takes its events and those of its connections.
        resolver: the object that resolves names (green/dns.py), None: the default one is made on first use.
        woken: called when a poll ended without anything to report; signals.py empties its socket there.
        handle_error: called with (context, type, value, traceback) when a greenlet or callback failed.
    """

    __slots__ = (  # an attribute in a dict costs four times as much on a subclass of greenlet
        "_event_words",
        "_fired",
        "_idle_waiters",
        "_other_threads",
        "_parents",
        "_request_words",
        "_taken",
        "_threadpool",
        "backend",
        "budget",
        "core",
        "destroyed",
        "fd_waits",
        "fd_watchers",
        "idle_runners",
        "interrupts",
        "level_triggered",
        "ports",
        "ready",
        "resolver",
        "thread_ident",
        "timers",
        "woken",
    )

    def __init__(self, backend: str = "auto") -> None:
        super().__init__(None, _main_greenlet())
        self.thread_ident = _get_ident()
        self.backend = backend
        self.ready: deque[Any] = deque()
        self.idle_runners: list[Runner] = []
        self.exception_stream = None
        self.resolver: Any = None
        self._threadpool: Any = None
        self.woken: Callable[[], None] = _nothing
        self._parents: Any = None
        self._open_core()

    def _open_core(self) -> None:
        core = lib.ss_loop_new(_BACKENDS[self.backend])
        if core == ffi.NULL:
            raise OSError(ffi.errno, f"the event loop cannot start: {os.strerror(ffi.errno)}")
        self.core = ffi.gc(core, lib.ss_loop_free)  # a server may hold it longer than this hub lives
        self.level_triggered = ffi.string(lib.ss_loop_backend(core)) != b"epoll"
        self._request_words = _view(lib.ss_loop_requests(core), lib.SS_BATCH * _REQUEST_WORDS)
        self._event_words = _view(lib.ss_loop_events(core), lib.SS_EVENTS * _EVENT_WORDS)
        self.budget = BUDGET
        self.timers: dict[int, Any] = {}
        self._fired: deque[Any] = deque()
        self.fd_watchers: dict[int, Callable[[int], Any]] = {}
        self.fd_waits = 0
        self.ports: dict[int, Port] = {}
        self.interrupts: dict[RawGreenlet, list[BaseException]] = {}
        self._other_threads: deque[Callback] = deque()
        self._idle_waiters: list[Waiter] = []
        self.destroyed = False

    # ---- running

    def run(self) -> None:
        """The loop itself; started by the first switch to the hub."""
        while not self.destroyed:
            try:
                self._run_ready()
                if self.destroyed:  # by what ran just now
                    break
            except BaseException as error:  # a failure here is nobody's: report it, go on
                self._failed(error, self)
            try:
                self._poll()
            except BaseException as error:
                self._poll_failed(error)
        main: Any = self.parent
        main.waiter = None
        main.throw(HubDestroyed(self))

    def _run_ready(self) -> None:
        ready = self.ready
        self.budget = BUDGET
        while ready and self.budget > 0:
            self.budget -= 1
            item = ready.popleft()
            kind = item.__class__
            if kind is tuple:
                run_item(self, item)
            elif kind is Callback:
                self._call(item)
            else:
                item.switch()

    def _call(self, callback: Callback) -> None:
        function, args = callback.function, callback.args
        callback.stop()
        if function is None:
            return
        try:
            function(*args)
        except BaseException as error:
            self._failed(error, function)

    def _poll(self, longest: int = -1) -> None:
        """Waits for events, at most `longest` nanoseconds (-1: until nothing can happen), and queues what they wake."""
        self._taken = False
        found = _poll(self.core, 0 if self.ready else -2 if self.fd_waits else longest)
        self._taken = True  # nothing runs between the line above and this one, unless the function of a signal raised
        self._take(found)

    def _take(self, found: int) -> None:
        """Queues what the events of a poll wake."""
        if found == _ONE_EVENT:
            words = self._event_words
            if words[0] == _FD:  # a request and its answer on a quiet server: spare the list
                self.fd_watchers[words[1]](words[2])
                return
        if found > 0:
            count = found >> 16
            if count:
                stream = iter(self._event_words[: count * _EVENT_WORDS].tolist())
                events = zip(stream, stream, stream, strict=True)
                while not self._take_events(events):
                    pass
            count = found & 0xFFFF
            if count:
                self._admit(self._request_words[: count * _REQUEST_WORDS].tolist(), count)
            while self._fired:
                self._fire()
        elif found == 0:
            self.woken()
        elif found == _IDLE:
            self._nothing_left()
        elif found == _SYSTEM:
            code = lib.ss_loop_errno(self.core)
            raise OSError(code, f"waiting for events failed: {os.strerror(code)}")

    def _admit(self, words: list[int], count: int) -> None:
        """Gives requests to the ports of their listeners; where one fails, the others still get theirs."""
        if count > 1 and words[::_REQUEST_WORDS].count(words[0]) < count:
            for start in range(0, count * _REQUEST_WORDS, _REQUEST_WORDS):
                self._admit(words[start : start + _REQUEST_WORDS], 1)
            return
        try:
            self.ports.get(words[0], NO_PORT).requests(words, count)
        except BaseException as error:
            self._failed(error, self)

    def _take_events(self, events: Iterator[tuple[int, int, int]]) -> bool:
        """False if one of them failed: the others are still to be taken, the core tells of each only once."""
        timers, fired = self.timers, self._fired
        try:
            for kind, handle, value in events:
                if kind == _TIMER:
                    fired.append(timers.pop(handle, None))
                elif kind == _FD:
                    self.fd_watchers[handle](value)
                elif kind == _WOKEN:
                    while self._other_threads:
                        self.ready.append(self._other_threads.popleft())
                else:
                    port = self.ports.get(kind >> _LISTENER_SHIFT, NO_PORT)
                    if kind & _KIND in _END_OF_WAIT:
                        port.resume(handle)
                    else:
                        fired.append((port, kind & _KIND, handle, value))
        except BaseException as error:
            self._failed(error, self)
            return False
        return True

    def _fire(self) -> None:
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
            self._failed(error, self)

    def _nothing_left(self) -> None:
        if self.ready or self._other_threads:  # a signal's function ran after the poll
            return
        if self._threadpool:  # it still has calls to finish, which will be told here
            self._poll(RECHECK)
            return
        if self._idle_waiters:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                waiter.wake(True)
            return
        if others_may_wake():
            self._poll(RECHECK)
            return
        main: Any = self.parent
        error = LoopExit("This operation would block forever: no timer, descriptor or listener is left", self)
        if not self.interrupt(main, error):
            main.throw(error)

    # ---- callbacks and timers

    def run_callback(self, function: Callable[..., Any], *args: Any) -> Callback:
        """Calls the function in the hub, soon. Only from this hub's thread."""
        callback = Callback(function, args)
        self.ready.append(callback)
        return callback

    def run_callback_threadsafe(self, function: Callable[..., Any], *args: Any) -> Callback:
        """Calls the function in the hub, soon. From any thread or signal handler."""
        callback = Callback(function, args)
        self._other_threads.append(callback)
        if not self.destroyed:
            lib.ss_loop_wake(self.core)
        return callback

    def start_timer(self, seconds: float, target: Any, counts: bool = True) -> int:
        """Has `target.fire()` called in the hub after `seconds`. Returns the timer's slot.

        Raises:
            ValueError: seconds is not a number.
        """
        if not -FOREVER <= seconds <= FOREVER:
            if seconds != seconds:
                raise ValueError(f"{seconds!r} seconds is not a time to wait: give a number, or inf for ever")
            seconds = FOREVER if seconds > 0 else 0.0
        slot: int = lib.ss_timer_start(self.core, int(seconds * 1e9), counts)
        if slot < 0:
            raise MemoryError("no memory for a timer")
        self.timers[slot] = target
        return slot

    def stop_timer(self, slot: int, target: Any) -> None:
        """Stops a timer if it still belongs to `target`."""
        if self.timers.get(slot) is target:
            del self.timers[slot]
            lib.ss_timer_stop(self.core, slot)

    @property
    def threadpool(self) -> Any:
        """The ThreadPool for calls that block; made on first use."""
        if self._threadpool is None:
            from streamserve.loop.threadpool import ThreadPool  # it stands on this module

            self._threadpool = ThreadPool(THREADPOOL_SIZE, self, IDLE_THREAD)
        return self._threadpool

    @threadpool.setter
    def threadpool(self, pool: Any) -> None:
        self._threadpool = pool

    def signal(self, signum: int, handler: Callable[..., Any], *args: Any) -> Any:
        """Calls the handler in a new greenlet when the signal arrives; see `signal_handler`."""
        from streamserve.loop.signals import signal_handler

        return signal_handler(signum, handler, *args)

    # ---- interruption

    def interrupt(self, target: Any, error: BaseException) -> bool:
        """Raises `error` in another greenlet of this hub, where it waits or when it next waits.

        Returns True if it is parked, so that the error is certainly on its way.
        """
        waiter = getattr(target, "waiter", None)
        if waiter is not None and waiter.fail(error):
            return True
        if waiter is None and target is self.parent and target is not getcurrent() and target not in self.ready:
            return False
        self.interrupts.setdefault(target, []).append(error)
        return True

    def raise_interrupt(self, current: Any) -> None:
        """Raises the first error that waits for this greenlet, if one does."""
        errors = self.interrupts.get(current)
        if errors is None:
            return
        if len(errors) == 1:
            del self.interrupts[current]
        raise errors.pop(0)

    def withdraw_interrupt(self, target: Any, error: BaseException) -> None:
        """Forgets an error that was not raised yet."""
        errors = self.interrupts.get(target)
        if errors and error in errors:
            errors.remove(error)
            if not errors:
                del self.interrupts[target]

    # ---- errors

    def _failed(self, error: BaseException, context: Any) -> None:
        self.handle_error(context, type(error), error, error.__traceback__)

    def _poll_failed(self, error: BaseException) -> None:
        """An error of the poll; or one that the function of a signal raised there, which is the main greenlet's."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        name = str(trace.tb_frame.f_globals.get("__name__")) if trace is not None else ""
        if name.startswith("streamserve."):
            self._failed(error, self)
        else:
            self.handle_system_error(type(error), error)
        if not self._taken:  # the core tells of each event only once
            self._taken = True
            self._take(lib.ss_loop_found(self.core))

    # ---- waiting for the end

    def join(self, timeout: float | None = None) -> bool:
        """Runs the loop until nothing is left to happen; False if `timeout` seconds passed first."""
        waiter = Waiter(self)
        self._idle_waiters.append(waiter)
        slot = self.start_timer(timeout, waiter, counts=False) if timeout is not None else -1
        try:
            return bool(waiter.park())
        finally:
            self.stop_timer(slot, waiter)
            if waiter in self._idle_waiters:
                self._idle_waiters.remove(waiter)

    def destroy(self) -> None:
        """Ends the core. Greenlets that are parked stay parked for ever; the main one gets HubDestroyed."""
        if self.destroyed:
            return
        self.destroyed = True
        self.ready.clear()
        self.timers.clear()  # a slot of the ended core must not be stopped
        lib.ss_loop_abandon(self.core)
        if _hubs.get(self.thread_ident) is self:
            del _hubs[self.thread_ident]

    def after_fork(self) -> None:
        """In a child: a fresh loop; what was parked, timed or queued belongs to the parent.

        It is kept, out of reach: freeing a parked greenlet would run its `finally` blocks here too.
        """
        self._parents = (list(self.ready), list(self.idle_runners), self.timers,
                         self.fd_watchers, [port.abandon() for port in self.ports.values()], self.interrupts,
                         self._other_threads, self._idle_waiters, self._parents)  # fmt: skip
        lib.ss_loop_abandon(self.core)
        self.ready.clear()
        self.idle_runners.clear()
        self.thread_ident = _get_ident()
        self._open_core()

    def __repr__(self) -> str:
        backend = ffi.string(lib.ss_loop_backend(self.core)).decode() if not self.destroyed else "destroyed"
        return f"<Hub {backend} of thread {self.thread_ident} at {id(self):#x}>"


def _main_greenlet() -> Any:
    current = getcurrent()
    while current.parent is not None:
        current = current.parent
    return current


def _nothing() -> None:
    """What `woken` is until signals.py is used."""


def _view(words: Any, count: int) -> memoryview:
    return memoryview(ffi.buffer(words, count * 8)).cast("B").cast("q")


class _ThreadEnd:
    """Lives as long as the thread that holds it: threading.local drops it at the end."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __del__(self) -> None:
        if self.hub.thread_ident == _get_ident():  # not in a forked child: the core is shared with the parent
            self.hub.destroy()


_hubs: dict[int, Hub] = {}  # by thread: half the cost of threading.local
_thread = threading.local()
_default_backend = "auto"


def get_hub() -> Hub:
    """Returns the hub of this native thread, making it on first use."""
    try:
        return _hubs[_get_ident()]
    except KeyError:
        return _new_hub()


def _new_hub() -> Hub:
    hub = _hubs[_get_ident()] = Hub(_default_backend)
    if threading.main_thread().ident != _get_ident():
        _thread.end = _ThreadEnd(hub)
    else:
        from streamserve.loop.signals import guard_interrupts  # it stands on this module

        guard_interrupts()
    return hub


def hub_of_thread() -> Hub | None:
    """Returns the hub of this native thread, or None if it has none yet."""
    return _hubs.get(_get_ident())


def set_default_backend(name: str) -> None:
    """Chooses the backend of hubs made from now on: auto, epoll or poll."""
    global _default_backend
    if name not in _BACKENDS:
        raise ValueError(f"loop backend {name!r} is unknown: choose one of {', '.join(_BACKENDS)}")
    _default_backend = name


def _after_fork_in_child() -> None:
    forget_threads()
    hub = _hubs.pop(_get_ident(), None)
    for other in _hubs.values():  # their threads are not in the child, but their epoll sets are the parent's
        lib.ss_loop_abandon(other.core)
    _hubs.clear()
    if hub is not None:
        _hubs[_get_ident()] = hub
        hub.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
