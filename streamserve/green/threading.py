"""What `threading` needs to run threads as greenlets.

`Thread`, `Timer`, `Event`, `Condition`, `Semaphore` and `Barrier` stay the standard library's own: they stand on what
`threading` took from `_thread`, and only that is replaced, under whatever names this CPython's `threading` has for it.
Two things are more than that:
  - `current_thread()` in a greenlet that is no Thread (a spawned one, a request) makes a `_DummyThread`; ours costs
    little to make, and leaves `threading._active` when the greenlet ends;
  - `_shutdown` at exit waits for threads that nothing can wake any more as little as for daemons.
"""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

from streamserve.errors import LoopExit
from streamserve.green import thread as _green_thread
from streamserve.green.identity import get_ident, native_id_of, when_ended
from streamserve.green.thread_handle import make_thread_handle
from streamserve.loop.greenlet import Greenlet, getcurrent

__target__ = "threading"

_standard: Any = threading
_Dummy: Any = _standard._DummyThread
_active: dict[int, Any] = _standard._active
_new_name: Any = _standard._newname
_native_shutdown: Any = _standard._shutdown


class _DummyThread(_Dummy):  # type: ignore[misc]
    """The Thread of a greenlet that was not started as one; gone from `threading.enumerate()` at its end.

    Most are asked for their name by a logger and for nothing else: the rest is made when it is asked for.
    """

    _initialized = True
    _daemonic = True
    _is_stopped = False
    _target = None
    _args = ()
    _kwargs: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it
    _tstate_lock = None

    def __init__(self) -> None:
        current = getcurrent()
        name = current._name if isinstance(current, Greenlet) else None
        self._name = name or _new_name("Dummy-%d")
        self._ident = ident = get_ident()
        _active[ident] = self
        when_ended(self._ended)

    def _ended(self) -> None:
        self._is_stopped = True
        if _active.get(self._ident) is self:
            del _active[self._ident]
        handle = self.__dict__.get("_handle")
        if handle is not None:
            handle._set_done()

    def __getattr__(self, name: str) -> Any:
        made: Any
        if name == "_started":
            made = threading.Event()
            made.set()
        elif name == "_handle":
            made = make_thread_handle(self._ident)
            if self._is_stopped:
                made._set_done()
        elif name == "_native_id":
            made = native_id_of(self._ident)
        elif name == "_stderr":
            made = sys.stderr
        elif name == "_invoke_excepthook":
            made = _standard._make_invoke_excepthook()
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__[name] = made
        return made

    def is_alive(self) -> bool:
        """True until the greenlet has ended."""
        return not self._is_stopped if self._started.is_set() else bool(super().is_alive())

    def _reset_internal_locks(self, is_alive: bool) -> None:
        """After fork, up to CPython 3.12."""
        self._started._at_fork_reinit()
        self._started.set()
        self._is_stopped = not is_alive

    def _after_fork(self, new_ident: int | None = None) -> None:
        """After fork, from CPython 3.13 on: the one that forked is the main thread now, and of its class."""
        for name in ("_handle", "_started", "_native_id", "_stderr", "_invoke_excepthook"):
            getattr(self, name)
        self.__dict__.update(_initialized=True, _daemonic=True)
        super()._after_fork(new_ident=new_ident)


def _shutdown() -> None:
    """Waits at exit until the threads that are no daemons have ended, or nothing is left that could wake them."""
    try:
        _native_shutdown()
    except LoopExit:
        waiting = [thread.name for thread in threading.enumerate() if not thread.daemon and _is_other(thread)]
        message = f"the program ends although threads wait, since nothing can wake them any more: {', '.join(waiting)}"
        warnings.warn(message, RuntimeWarning, stacklevel=1)


def _is_other(thread: threading.Thread) -> bool:
    return thread.is_alive() and thread is not threading.main_thread()


__implements__ = ["_DummyThread", "_shutdown"]


def _collect() -> None:
    """Takes over from green/thread.py, for each name by which `threading` holds something of `_thread`."""
    replaced = {}
    for name in _green_thread.__implements__:
        original = getattr(sys.modules["_thread"], name)
        replaced[id(original)] = getattr(_green_thread, name)
    for name, value in vars(threading).items():
        if id(value) in replaced and name not in __implements__:
            globals()[name] = replaced[id(value)]
            __implements__.append(name)


_collect()
