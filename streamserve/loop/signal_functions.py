"""The functions of signals run in the main greenlet, where they can wait, and what they raise is raised there.

The interpreter calls such a function at any bytecode of the main thread, on top of whatever greenlet runs. A program
expects it on top of its main thread: `stop.set(); thread.join(); sys.exit(0)` waits for others and ends the program. In
the hub it could not wait, in another greenlet it would wait for itself, or its exception end the wrong one. So:
  - on top of the main greenlet's own code it is called at once, as ever;
  - else it becomes an Arrival, among the errors that are raised in the main greenlet (Hub.interrupts). That runs it
    where it waits, and then goes on waiting, or where it next waits;
  - a greenlet that never waits keeps main from that. A signal that comes again, which after `PATIENCE` it does by
    itself, finds the Arrival not run, and runs it there. Ctrl-C then ends that greenlet; main hears of it too, even
    if a bare `except:` there swallowed it.

From the first hub of the main thread on `signal.signal` sees to that, and `getsignal` gives what the program has set.
Functions of this package are called at once, as they were: they know about greenlets.
"""

from __future__ import annotations

import atexit
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from time import sleep as native_sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from streamserve.core import lib
from streamserve.loop.hubs import hub_of_thread
from streamserve.loop.native_threads import in_main_thread, start_new_thread
from streamserve.loop.waiter import SIGNALLED

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

PATIENCE = 0.1
"""Seconds that a greenlet may keep the main one from running the function of a signal."""

_OURS = __name__.partition(".")[0]
_LEFT_ALONE = (_OURS, "asyncio.unix_events")  # asyncio's does nothing: its descriptor is what wakes its loop

_signal: Any = import_module("_signal")
_interrupt_main: Any = import_module("_thread").interrupt_main
_set: Any = signal.signal
_get: Any = signal.getsignal
_set_descriptor: Any = signal.set_wakeup_fd


class Arrival:
    """A signal whose function is to be called in the main greenlet."""

    __slots__ = ("function", "signum")

    def __init__(self, function: Callable[..., Any], signum: int) -> None:
        self.function = function
        self.signum = signum

    def call(self) -> None:
        self.function(self.signum, sys._getframe(1))


class InMain:
    """What the interpreter calls for a signal whose function is the program's."""

    __slots__ = ("_waiting", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._waiting: Arrival | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> Any:
        hub = hub_of_thread()
        main = None if hub is None or hub.destroyed else _main(hub)
        if hub is None or main is None:
            return self.function(signum, frame)
        current = getcurrent()
        outside = frame is not None and not _is_ours(frame.f_globals.get("__name__"))
        if outside and current is main:
            self._take_back(hub)
            return self.function(signum, frame)
        if outside and current is not hub and self._take_back(hub):
            self._call_here(hub, signum, frame)
            return None
        self._waiting = arrival = Arrival(self.function, signum)
        send(hub, arrival)
        waiter = getattr(main, "waiter", None)
        if current is not hub or waiter is None or waiter.done:
            start_new_thread(_insist, (hub, arrival))
        return None

    def _take_back(self, hub: Hub) -> bool:
        arrival, self._waiting = self._waiting, None
        if arrival is None or not _is_waiting(hub, arrival):
            return False
        hub.withdraw_interrupt(_main(hub), arrival)
        return True

    def _call_here(self, hub: Hub, signum: int, frame: FrameType | None) -> None:
        """Calls it on top of a greenlet that does not wait; what it raises is main's."""
        try:
            self.function(signum, frame)
        except BaseException as error:
            send(hub, error)
            if self.function is signal.default_int_handler:
                raise


def _is_ours(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == _OURS


def _is_waiting(hub: Hub, arrival: Any) -> bool:
    return any(item is arrival for item in hub.interrupts.get(_main(hub), ()))


def _main(hub: Hub) -> Any:
    """The main greenlet, or what stands for it in the child of a fork; None: that has ended."""
    return hub.parent if hub.forker is None else hub.forker._raw()


def send(hub: Hub, what: Any) -> None:
    """Has an Arrival called, or an error raised, in the main greenlet of this thread; at any bytecode."""
    main = _main(hub)
    hub.interrupts.setdefault(main, []).append(what)
    waiter = getattr(main, "waiter", None)
    if waiter is not None and waiter.error is None:  # also where the wait has ended, and main is about to go on
        waiter.error = SIGNALLED
    hub.run_callback(_deliver, hub, what)
    lib.ss_loop_wake(hub.core)  # it may be about to wait


def _deliver(hub: Hub, what: Any) -> None:
    """Has the main greenlet run what was sent, if it waits; in the hub."""
    main = _main(hub)
    if main is None or main.dead or not _is_waiting(hub, what):
        return
    waiter = getattr(main, "waiter", None)
    if waiter is not None:
        if not waiter.done and main not in hub.ready:
            hub.ready.append(main)
    elif main not in hub.ready:  # it switched to the hub by hand
        hub.withdraw_interrupt(main, what)
        try:
            if isinstance(what, BaseException):
                raise what
            what.call()
        except BaseException as error:
            main.throw(error)


def _insist(hub: Hub, arrival: Arrival) -> None:
    native_sleep(PATIENCE)
    if _is_waiting(hub, arrival):
        _interrupt_main(arrival.signum)


# ---- what programs call

wake_up_descriptor = -1
"""That of the loop, while the program has set no other."""

_warns = False
"""Whether the interpreter is to tell when the program's own is full."""

_over = False
"""The interpreter ends: the loop's is not set any more."""


@wraps(_set)
def set_function(signalnum: Any, handler: Any) -> Any:
    if callable(handler) and not _is_left_alone(handler):
        handler = InMain(handler)
    return _unwrapped(_set(signalnum, handler))


@wraps(_get)
def get_function(signalnum: Any) -> Any:
    return _unwrapped(_get(signalnum))


@wraps(_set_descriptor)
def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    global _warns
    _warns = warn_on_full_buffer
    if fd == -1 and wake_up_descriptor >= 0:
        before = _set_descriptor(wake_up_descriptor, warn_on_full_buffer=False)
    else:
        before = _set_descriptor(fd, warn_on_full_buffer=warn_on_full_buffer)
    return -1 if before == wake_up_descriptor else int(before)


def use_descriptor(fd: int) -> None:
    """Has signals write to this descriptor, unless the program has set one."""
    global wake_up_descriptor
    if _over:
        return
    own, wake_up_descriptor = wake_up_descriptor, fd
    before = _set_descriptor(fd, warn_on_full_buffer=False)
    if before not in (-1, own):
        _set_descriptor(before, warn_on_full_buffer=_warns)


def _unwrapped(handler: Any) -> Any:
    return handler.function if handler.__class__ is InMain else handler


def _is_left_alone(handler: Any) -> bool:
    module = getattr(handler, "__module__", None)
    return _is_ours(module) or module in _LEFT_ALONE


def adopt_functions() -> None:
    """Replaces `signal.signal` and what belongs to it, and takes over what is set; in the main thread."""
    if signal.signal is set_function:
        return
    signal.signal, signal.getsignal, signal.set_wakeup_fd = set_function, get_function, set_wakeup_fd
    for number in signal.valid_signals():
        handler = _signal.getsignal(number)
        if callable(handler):
            set_function(number, handler)


@atexit.register
def _give_back() -> None:
    """The interpreter keeps `signal` to the last: it would keep all of this, and empty it before the last finalizer.

    And it closes the socket, whose number a file may have then that a signal must not write to.
    """
    global _over
    if signal.signal is set_function:
        signal.signal, signal.getsignal, signal.set_wakeup_fd = _set, _get, _set_descriptor
    use_descriptor(-1)
    _over = True


def may_wake() -> bool:
    """True if a signal's function may wake whoever waits in this thread."""
    if hub_of_thread() is None or not in_main_thread():
        return False
    for number in range(1, _signal.NSIG):
        handler = _unwrapped(_signal.getsignal(number))
        if callable(handler) and handler is not signal.default_int_handler and not _only_looks(handler):
            return True
    return False


def _only_looks(handler: Any) -> bool:
    """True for functions that wake nobody: those of this package that are no `signal_handler`."""
    return _is_left_alone(handler) and getattr(handler, "__self__", None) is None
