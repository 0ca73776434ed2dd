"""Cooperative `_thread`: a thread is a greenlet, a lock lets other greenlets run while it waits.

Nothing else of `_thread` needs replacing: `threading` stands on these, and its own names for them
are replaced where they are found (green/threading.py), whatever a release of CPython calls them.
What is left as it is: `stack_size`, which greenlets ignore; `exit`, `TIMEOUT_MAX`.
"""

from __future__ import annotations

import _thread
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from greenlet import getcurrent

from streamserve.green.identity import get_ident, get_native_id, ident_of, when_ended
from streamserve.green.thread_handle import (
    Sentinel,
    ThreadHandle,
    get_main_thread_ident,
    make_thread_handle,
    shutdown,
)
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import main_ident
from streamserve.loop.waiter import yield_turn
from streamserve.sync.local import local
from streamserve.sync.lock import Lock
from streamserve.sync.lock import RLock as _RLock

__target__ = "_thread"
get_ident.__module__ = get_native_id.__module__ = __target__

_native_count = _thread._count
_signal: Any = importlib.import_module("_signal")
_native_interrupt_main: Any = _thread.interrupt_main

SPINS = 64
"""After so many refusals a lock lets others run: a loop around `acquire(False)` or `Queue.get(False)` never waits."""


class LockType(Lock):
    """The lock of `threading.Lock`, for greenlets and native threads alike."""

    __slots__ = ("_refusals",)
    __module__ = "_thread"

    def __init__(self) -> None:
        super().__init__()
        self._refusals = 0

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("type '_thread.lock' is not an acceptable base type")

    def _busy(self) -> bool:
        self._refusals += 1
        if self._refusals >= SPINS:
            self._refusals = 0
            hub = get_hub()
            if getcurrent() is not hub:
                yield_turn(hub)
        return False

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.release()
        if kind is not None:  # what it guards refused something, as a queue does that is empty
            self._busy()

    acquire_lock = Lock.acquire
    release_lock = Lock.release
    locked_lock = Lock.locked

    def _is_owned(self) -> bool:
        """Asked by threading.Condition, which else finds out by trying to acquire it."""
        return self.counter <= 0

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle '_thread.lock' object")

    def __repr__(self) -> str:
        return f"<{_state(self)} _thread.lock object at {id(self):#x}>"


class RLock(_RLock):
    """The lock of `threading.RLock`, owned by a greenlet, or by a native thread where none runs."""

    __slots__ = ()
    __module__ = "_thread"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """The arguments are ignored, as the compiled one ignores them."""
        super().__init__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle '_thread.RLock' object")

    def __repr__(self) -> str:
        owner = 0 if self._owner is None else getattr(self._owner, "_ident", id(self._owner))
        return f"<{_state(self)} _thread.RLock object owner={owner} count={self._count} at {id(self):#x}>"


def _state(lock: Lock | _RLock) -> str:
    return "locked" if lock.locked() else "unlocked"


allocate_lock = allocate = lock = LockType


class _local(local):
    """`threading.local`, by greenlet."""

    __module__ = "_thread"
    __slots__ = ()


# ---- threads

_running: set[int] = set()
"""The idents of the threads that were started here and have not ended."""


def _count() -> int:
    """Returns how many threads there are beside the first: native ones and greenlets started here."""
    return _native_count() + len(_running)


def start_new_thread(function: Callable[..., Any], args: Any, kwargs: Any = None, /) -> int:
    """Runs the function in a greenlet of this native thread; returns the ident that it will have.

    An exception that the function lets out is reported like the stdlib does, SystemExit not at all.

    Raises:
        TypeError: function cannot be called, args is no tuple, or kwargs no dict.
    """
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    sys.audit("_thread.start_new_thread", function, args, kwargs)
    return _start(function, args, kwargs or {}, None)


start_new = start_new_thread


def start_joinable_thread(
    function: Callable[[], Any], handle: ThreadHandle | None = None, daemon: bool = True
) -> ThreadHandle:
    """Runs the function in a greenlet whose end `handle.join()` awaits (CPython 3.13 and later).

    Args:
        function: called without arguments.
        handle: one that was not started yet; made if None.
        daemon: False: the interpreter waits for it before it exits.

    Raises:
        TypeError: function cannot be called, or handle is no handle.
        RuntimeError: handle was started before.
    """
    if not callable(function):
        raise TypeError("thread function must be callable")
    if handle is None:
        handle = ThreadHandle()
    elif not isinstance(handle, ThreadHandle):
        raise TypeError("'handle' must be a _ThreadHandle")
    sys.audit("_thread.start_joinable_thread", function, daemon, handle)
    handle.begin(daemon)
    handle.ident = _start(function, (), {}, handle)
    return handle


def _start(function: Callable[..., Any], args: Any, kwargs: Any, handle: ThreadHandle | None) -> int:
    greenlet = Greenlet(_run, function, args, kwargs, handle)
    ident = ident_of(greenlet)
    _running.add(ident)
    greenlet.start()
    return ident


def _run(function: Callable[..., Any], args: Any, kwargs: Any, handle: ThreadHandle | None) -> None:
    try:
        function(*args, **kwargs)
    except SystemExit:
        pass
    except Exception as error:
        _report(function, error)
    finally:
        _running.discard(get_ident())
        if handle is not None:
            handle._set_done()


def _report(function: Callable[..., Any], error: Exception) -> None:
    """Tells of an exception as the interpreter does for a native thread: by sys.unraisablehook."""
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
    error.__traceback__ = trace
    kinds: Any = [kind for kind in tuple.__subclasses__() if kind.__name__ == "UnraisableHookArgs"]
    if not kinds:
        traceback.print_exception(error)
        return
    message = "Exception ignored in thread started by"
    whom: Any = function
    if sys.version_info >= (3, 13):
        message, whom = f"{message} {function!r}", None
    sys.unraisablehook(kinds[0]((type(error), error, trace, message, whom)))


def _after_fork_in_child() -> None:
    _running.intersection_update((get_ident(),))


os.register_at_fork(after_in_child=_after_fork_in_child)


def _set_sentinel() -> Sentinel:
    """Returns a lock that is released when the current thread ends (up to CPython 3.12)."""
    sentinel = Sentinel()
    when_ended(lambda: sentinel.release() if sentinel.locked() else None)
    return sentinel


def interrupt_main(signum: int = signal.SIGINT, /) -> None:
    """Has the handler of a signal called in the main thread, as if the signal had arrived.

    Raises:
        ValueError: there is no such signal.
    """
    handler = _signal.getsignal(signum)  # the one that the interpreter has
    hub = get_hub()
    if hub.thread_ident != main_ident():
        _native_interrupt_main(signum)
    elif not callable(handler):
        return
    elif getcurrent().parent is None:
        handler(signum, sys._getframe(1))
    else:
        hub.run_callback(handler, signum, None)  # what it raises goes to the main greenlet, where that waits
        if getcurrent() is not hub:
            yield_turn(hub)


_ThreadHandle = ThreadHandle
_make_thread_handle = make_thread_handle
_get_main_thread_ident = get_main_thread_ident
_shutdown = shutdown

_NAMES = """LockType RLock _ThreadHandle _count _get_main_thread_ident _local _make_thread_handle _set_sentinel
_shutdown allocate allocate_lock get_ident get_native_id interrupt_main lock
start_joinable_thread start_new start_new_thread"""

__implements__ = [name for name in _NAMES.split() if hasattr(_thread, name)]
__all__ = __implements__
