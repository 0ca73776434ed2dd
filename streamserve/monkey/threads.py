"""The main thread, as `threading` and the import system know it, while threads become greenlets."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

from greenlet import getcurrent

from streamserve.green import condition
from streamserve.green import thread as green_thread
from streamserve.green.identity import get_ident
from streamserve.green.native_thread import NativeHandle, NativeSentinel
from streamserve.green.thread_handle import Sentinel, ThreadHandle
from streamserve.loop.native_threads import others_run
from streamserve.monkey.report import report

__all__ = ["adopt_main_thread", "adopt_threads", "patch_condition", "report_running_threads"]


def report_running_threads(here: int) -> None:
    """Names the native threads that run already: their locks may be replaced while they use them.

    Args:
        here: The native ident of the current thread.
    """
    if here != threading.main_thread().ident:
        report("patched in a thread that is not the main one: patch in the main thread, before others start")
    if others_run():
        others = [thread.name for thread in threading.enumerate() if thread.ident != here]
        named = ", ".join(others) or "unknown to threading"
        report(f"patched while other native threads run, which stay native: {named}")


def patch_condition() -> None:
    """Conditions lose no notification to a kill: also those that exist, and those of derived classes."""
    threading.Condition.wait = condition.wait  # type: ignore[method-assign]


def adopt_main_thread(native_ident: int) -> None:
    """Makes the end of the main thread something that greenlets can wait for, and gives this greenlet its imports.

    Args:
        native_ident: What the current greenlet's ident was before patching.
    """
    main: Any = threading.main_thread()
    if "_handle" in main.__dict__:
        main._handle = green_thread._make_thread_handle(main.ident)
    elif main._tstate_lock is not None:
        _replace_sentinel(main)
    if getcurrent().parent is not None:
        _adopt_imports(native_ident)


def adopt_threads() -> None:
    """Lets greenlets wait for the threads that run natively; those that were not started yet begin as greenlets."""
    for thread in list(threading._dangling):  # type: ignore[attr-defined]
        if thread is threading.main_thread():
            continue
        handle, sentinel = thread.__dict__.get("_handle"), thread.__dict__.get("_tstate_lock")
        if handle is not None and not thread._started.is_set():
            thread._handle = ThreadHandle()
        elif handle is not None:
            thread._handle = NativeHandle(handle)
        elif sentinel is not None:
            thread._tstate_lock = shared = NativeSentinel(sentinel)
            awaited: set[Any] = threading._shutdown_locks  # type: ignore[attr-defined]
            if sentinel in awaited:
                awaited.discard(sentinel)
                awaited.add(shared)


def _replace_sentinel(main: Any) -> None:
    """Up to CPython 3.12: the lock that is held until `threading._shutdown`."""
    sentinel: Any = Sentinel()
    sentinel.acquire()
    awaited: set[Any] = threading._shutdown_locks  # type: ignore[attr-defined]
    awaited.discard(main._tstate_lock)
    awaited.add(sentinel)
    main._tstate_lock = sentinel


def _adopt_imports(native_ident: int) -> None:
    """Patched in a greenlet that is importing: the import system must know it by its new ident."""
    module_lock: Any = sys.modules["importlib._bootstrap"]._ModuleLock
    for item in gc.get_objects():
        if type(item) is module_lock and item.owner == native_ident:
            item.owner = get_ident()
