"""The hub: one greenlet per native thread that polls the core and runs what is ready.

`ready` is the only queue. It holds three kinds of things:
  - a tuple: an item for a runner (a greenlet's start, a request);
  - a parked greenlet that was woken: the hub switches to it;
  - a Callback: called in the hub itself; must not wait.
Between two polls at most `BUDGET` of them run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from sys import is_finalizing
from typing import Any, ClassVar

from greenlet import GreenletExit, getcurrent
from greenlet import greenlet as RawGreenlet

from streamserve.core import ffi, lib
from streamserve.errors import HubDestroyed, LoopExit
from streamserve.loop.callback import Callback
from streamserve.loop.event_loop import EventLoop
from streamserve.loop.failures import FailureReports
from streamserve.loop.hubs import first_greenlet, forget_hub
from streamserve.loop.identities import Identities
from streamserve.loop.interruption import Interruption
from streamserve.loop.native_threads import get_ident as _get_ident
from streamserve.loop.native_threads import others_may_wake
from streamserve.loop.runner import run_item
from streamserve.loop.signal_functions import may_wake
from streamserve.loop.waiter import Runner, Waiter

BUDGET = 256
"""Most ready items that run between two polls."""

RECHECK = 1_000_000_000
"""Nanoseconds after which a hub with nothing to do looks again whether another thread is left to wake it."""

FOREVER = 4e9
"""Seconds, 127 years: a longer wait, also an infinite one, is taken as this."""

_poll = lib.ss_loop_poll
_IDLE: int = lib.SS_IDLE
_SYSTEM: int = lib.SS_SYSTEM
_WOKEN: int = lib.SS_WOKEN


class Hub(RawGreenlet, Interruption, FailureReports):
    """The loop of one native thread. Get it by `get_hub()`; do not make one.

    Attributes:
        threadpool_factory: makes the ThreadPool of a hub; pool/threadpool.py, which stands on this module, sets it.
        ready: what runs next (see the head of this file).
        core, timers, fd_watchers, ports, interrupts: those of its EventLoop, until a fork renews it.
        level_triggered: the backend reports readiness again as long as it lasts.
        fd_waits: how many greenlets wait for a descriptor: as long as one does, a poll may block for ever.
        forker: in the child of a fork that a greenlet called, what stands for the main greenlet; else None.
        identities: which threads requests are, while none runs under them.
        job: which request of a poll runs, for the watchdog: in `ready` they are one item.
        resolver: the object that resolves names (green/dns.py), None: the default one is made on first use.
        woken: called when a poll ended because of a signal alone; signals.py empties its socket there.
        handle_error: called with (context, type, value, traceback) when a greenlet or callback failed.
    """

    threadpool_factory: ClassVar[Callable[[Hub], Any]]

    __slots__ = (  # an attribute in a dict costs four times as much on a subclass of greenlet
        "_loop",
        "_parents",
        "_threadpool",
        "backend",
        "budget",
        "core",
        "destroyed",
        "ended",
        "fd_waits",
        "fd_watchers",
        "forker",
        "identities",
        "idle_runners",
        "interrupts",
        "job",
        "level_triggered",
        "ports",
        "ready",
        "resolver",
        "thread_ident",
        "timers",
        "woken",
    )

    def __init__(self, backend: str = "auto") -> None:
        super().__init__(None, first_greenlet())
        self.backend = backend
        self.ready: deque[Any] = deque()
        self.idle_runners: list[Runner] = []
        self.identities = Identities(self)
        self.exception_stream = None
        self.resolver: Any = None
        self._threadpool: Any = None
        self.woken: Callable[[], None] = _nothing
        self._parents: list[EventLoop] = []
        self.destroyed = self.ended = False
        self.forker: Any = None
        self._use(EventLoop(backend))

    def _use(self, loop: EventLoop) -> None:
        """Goes on with this loop; what is looked up for each wait is bound to the hub itself."""
        self.thread_ident = _get_ident()
        self.budget = BUDGET
        self.job = 0
        self.fd_waits = 0
        self._loop = loop
        self.core = loop.core
        self.level_triggered = loop.level_triggered
        self.timers = loop.timers
        self.fd_watchers = loop.fd_watchers
        self.ports = loop.ports
        self.interrupts = loop.interrupts

    # ---- running

    def run(self, finalizing: Callable[[], bool] = is_finalizing) -> None:
        """The loop itself; started by the first switch to the hub. Whatever is raised in it, it goes on."""
        try:
            while not self.destroyed:
                try:
                    self._turns()
                except BaseException as error:  # of a signal's function, which came amid a report or between two lines
                    self.throw_main(error)
            if not self.ended:
                self.throw_main(HubDestroyed(self))
        finally:
            if not finalizing():  # then finalizers wait without it (ending.py)
                self.destroy()  # it has no greenlet any more: who waits next gets another hub

    def reach(self) -> None:
        """Switches to the hub from a greenlet that could not.

        A thread's first greenlet is made by its first call of greenlet's. A finalizer that ran amid that, and made
        this hub, had another first greenlet, which nobody will ever switch to again.

        Raises:
            HubDestroyed: the hub has begun there; the next wait has another.
        """
        first = first_greenlet()
        if self.thread_ident != _get_ident() or self.parent is first:  # the error is another, or was thrown
            raise
        if self:
            self.destroy()
            raise HubDestroyed(self)
        self.parent = first
        self.switch()

    def _turns(self) -> None:
        while not self.destroyed:
            try:
                self._run_ready()
            except BaseException as error:  # a failure here is nobody's: report it, go on
                self.report(error, self)
            if self.destroyed:  # by what ran just now
                break
            try:
                self._poll()
            except BaseException as error:
                self._poll_failed(error)

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
            elif kind is Runner:
                go = item.go
                del item
                go()
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
            self.report(error, function)

    def _poll(self, longest: int = -1) -> None:
        """Waits for events, at most `longest` nanoseconds (-1: until nothing can happen), and queues what they wake."""
        loop = self._loop
        loop.taken = False
        found = _poll(self.core, 0 if self.ready else -2 if self.fd_waits else longest)
        loop.taken = True  # nothing runs between the line above and this one, unless the function of a signal raised
        if found > 0:
            loop.take(self, found)
        elif found == _WOKEN:
            self.woken()
        elif found == _IDLE:
            self._nothing_left()
        elif found == _SYSTEM:
            code = lib.ss_loop_errno(self.core)
            raise OSError(code, f"waiting for events failed: {os.strerror(code)}")

    def _nothing_left(self) -> None:
        if self.ready or self._loop.other_threads:  # a signal's function ran after the poll
            return
        if self._threadpool:  # it still has calls to finish, which will be told here
            self._poll(RECHECK)
            return
        waiters = self._loop.idle_waiters
        if waiters:
            for waiter in waiters:
                waiter.wake(True)
            waiters.clear()
            return
        # The child of a fork is over when the greenlet that forked has ended, be there functions of signals or not.
        if others_may_wake() or (may_wake() and not (self.forker is not None and self.forker.ended)):
            self._poll(RECHECK)
            return
        if self.ready or self._loop.other_threads:  # of a thread that has ended since we looked
            return
        self.throw_main(LoopExit("This operation would block forever: no timer, descriptor or listener is left", self))

    # ---- callbacks and timers

    def run_callback(self, function: Callable[..., Any], *args: Any) -> Callback:
        """Calls the function in the hub, soon. Only from this hub's thread."""
        callback = Callback(function, args)
        self.ready.append(callback)
        return callback

    def run_callback_threadsafe(self, function: Callable[..., Any], *args: Any) -> Callback:
        """Calls the function in the hub, soon. From any thread or signal handler."""
        callback = Callback(function, args)
        self._loop.other_threads.append(callback)
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
            self._threadpool = self.threadpool_factory()
        return self._threadpool

    @threadpool.setter
    def threadpool(self, pool: Any) -> None:
        self._threadpool = pool

    def signal(self, signum: int, handler: Callable[..., Any], *args: Any) -> Any:
        """Calls the handler in a new greenlet when the signal arrives; see `signal_handler`."""
        from streamserve.loop.signals import signal_handler

        return signal_handler(signum, handler, *args)

    # ---- errors

    def _poll_failed(self, error: BaseException) -> None:
        """An error of the poll; or one that the function of a signal raised there, which is the main greenlet's."""
        trace = error.__traceback__
        while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("streamserve."):
            trace = trace.tb_next
        if trace is None:
            self.report(error, self)
        else:
            self.handle_system_error(type(error), error)
        if not self._loop.taken:  # the core tells of each event only once
            self._loop.taken = True
            self._loop.take(self, lib.ss_loop_found(self.core))

    # ---- waiting for the end

    def join(self, timeout: float | None = None) -> bool:
        """Runs the loop until nothing is left to happen; False if `timeout` seconds passed first."""
        waiter = Waiter(self)
        waiters = self._loop.idle_waiters
        waiters.append(waiter)
        slot = self.start_timer(timeout, waiter, counts=False) if timeout is not None else -1
        try:
            return bool(waiter.park())
        finally:
            self.stop_timer(slot, waiter)
            if waiter in waiters:
                waiters.remove(waiter)

    def destroy(self) -> None:
        """Ends the core. Greenlets that are parked stay parked for ever; the main one gets HubDestroyed."""
        if self.destroyed:
            return
        self.destroyed = True
        self.ready.clear()
        self.timers.clear()  # a slot of the ended core must not be stopped
        lib.ss_loop_abandon(self.core)
        forget_hub(self)

    def end(self) -> None:
        """Its native thread ends: so do its greenlet and the idle ones, which nothing frees while suspended."""
        self.destroy()
        self.ended = True
        idle, self.idle_runners[:] = self.idle_runners[:], ()
        for greenlet in (*idle, self):
            if greenlet and getcurrent() is self.parent:  # begun, and it can be switched to
                greenlet.parent = self.parent
                with suppress(GreenletExit):
                    greenlet.throw()

    def after_fork(self) -> None:
        """In a child: a fresh loop; what was parked, timed or queued belongs to the parent, and is kept out of reach.

        The queue and the list of runners stay the same objects, for the greenlet that forked may be using them.
        """
        from streamserve.loop.forker import Forker  # it stands on this module

        self.forker = Forker(self.parent) if getcurrent() is not self.parent else None
        self._loop.leave(list(self.ready), list(self.idle_runners), self.identities.leave())
        self._parents.append(self._loop)
        self.ready.clear()
        self.idle_runners.clear()
        self._use(EventLoop(self.backend))

    def __repr__(self) -> str:
        backend = ffi.string(lib.ss_loop_backend(self.core)).decode() if not self.destroyed else "destroyed"
        return f"<Hub {backend} of thread {self.thread_ident} at {id(self):#x}>"


def _nothing() -> None:
    """What `woken` is, but for the main thread's hub."""
