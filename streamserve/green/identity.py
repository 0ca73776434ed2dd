"""Who runs: the number that stands for a greenlet where a thread would have its ident.

The first greenlet of a native thread keeps the ident that the system gave the thread:
main_thread() stays right, and so do locks that were taken before patching. Every other
greenlet gets the next number of a counter, so none is ever used again: an RLock or
a dict that remembers a greenlet which has ended will not take another for it. Native idents
are addresses; the counter does not come near them. Requests and handlers of WebSockets have the number of their
thread identity, as the requests that run in one thread of a pool have (loop/identities.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent as _getcurrent

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.identities import IDENTS
from streamserve.loop.native_threads import get_ident as _native_ident
from streamserve.loop.native_threads import get_native_id as _native_id
from streamserve.loop.waiter import Runner
from streamserve.sync.local import local

__all__ = ["get_ident", "get_native_id", "ident_of", "native_id_of", "when_ended"]


def get_ident() -> int:
    """Returns the number of the current greenlet, or the thread's ident in the first one of a native thread."""
    current: Any = _getcurrent()
    if current.__class__ is Runner:
        task = current.task
        current = Greenlet.borrow(current) if task is None else task
    try:
        return current._ident
    except AttributeError:
        return ident_of(current)


def ident_of(greenlet: Any) -> int:
    """Returns the number of a greenlet, giving it one if it has none; a Greenlet need not have begun."""
    try:
        return greenlet._ident
    except AttributeError:
        is_first = not isinstance(greenlet, Greenlet) and greenlet.parent is None and greenlet is _getcurrent()
        greenlet._ident = ident = _native_ident() if is_first else next(IDENTS)
        return ident


NATIVE_IDS = 1 << 22
"""No task of the system has a number from here on (PID_MAX_LIMIT of Linux): these are the native ids of greenlets."""


def get_native_id() -> int:
    """Returns the system's number of this native thread in its first greenlet; in others one that is theirs alone."""
    return native_id_of(get_ident())


def native_id_of(ident: int) -> int:
    """The native id of the greenlet with this ident, if it is the current one or no thread's first."""
    return _native_id() if ident == _native_ident() else NATIVE_IDS + ident


class _Ends(list[Callable[[], Any]]):
    """What is to be called when this is freed, which is when the greenlet ends whose local has it."""

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if finalizing():  # the modules that the actions belong to are empty; nobody waits any more
            return
        for action in self:
            action()


class _Mine(local):
    """Greenlet-local."""

    def __init__(self) -> None:
        self.ends = _Ends()


_mine = _Mine()


def when_ended(action: Callable[[], Any]) -> None:
    """Has `action()` called when the current greenlet ends.

    For one that is no Greenlet (the first of a native thread, one made by hand) that is when it is freed.

    Args:
        action: Must not wait or raise.
    """
    _mine.ends.append(action)
