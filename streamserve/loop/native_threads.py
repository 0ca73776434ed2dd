"""Native threads of this package: those that wait for work will wake nobody.

A hub on which nothing can happen any more is not at its end while another
native thread runs that may still wake it: set its event, release its lock. So
it asks here whether there is one, leaving out those that only serve: idle
workers of a pool, the watchdog.

Patching replaces the names of `_thread`. This module is imported before anything
can be patched, so it is the one place from which others take the real ones.
"""

from __future__ import annotations

import os
import threading
from _thread import TIMEOUT_MAX, RLock, _count, allocate_lock, get_ident, get_native_id, start_new_thread
from _thread import _local as thread_local

from streamserve.loop.fork_mask import handlers as handlers  # for what it does, before other hooks of forks

__all__ = [
    "TIMEOUT_MAX",
    "RLock",
    "allocate_lock",
    "forget_threads",
    "get_ident",
    "get_native_id",
    "in_main_thread",
    "main_ident",
    "others_may_wake",
    "others_run",
    "start_new_thread",
    "thread_local",
    "thread_serves",
    "thread_works",
]

_serving = 0
_left_behind = 0
_main = threading.main_thread().ident or 0


def main_ident() -> int:
    """Returns the number of the native thread that signals' functions run in; in a child of fork the one that forked.

    There `threading.main_thread()` may be a greenlet.
    """
    return _main


def in_main_thread() -> bool:
    return get_ident() == _main


def thread_serves() -> None:
    """Called by a native thread of this package: from now on it only waits for work."""
    global _serving
    _serving += 1  # no call in between, so no other thread either


def thread_works() -> None:
    """Called by a native thread of this package: from now on its work may wake others, or it ends."""
    global _serving
    _serving -= 1


def others_may_wake() -> bool:
    """True if, besides the calling thread, one runs that does not only serve, be it one that a C library made.

    Linux knows those, and also the one that was just started, which CPython counts once it runs.
    """
    try:
        return len(os.listdir("/proc/self/task")) - 1 > _serving
    except OSError:
        return others_run()


def others_run() -> bool:
    """True if, besides the calling thread, one runs that Python started and that does not only serve."""
    return _count() - _left_behind - _serving > 0


def forget_threads() -> None:
    """In a child after fork, which has one thread."""
    global _serving, _left_behind, _main
    _main = get_ident()
    _serving, _left_behind = 0, _count()  # CPython goes on counting the threads of the parent
