"""The hubs of this process: one per native thread, made on first use.

A thread that ends takes its hub along; a child of fork has one thread, and keeps
that thread's hub, with a fresh loop.

A hub is found by its thread's locals, not by its number, which the next thread has
again. While a thread ends, what is freed with its locals may still ask for a hub: one
that were put into the locals now would never be freed. The thread's first greenlet
holds it, which ends last.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from greenlet import getcurrent

from streamserve.core import lib
from streamserve.loop.event_loop import BACKENDS
from streamserve.loop.native_threads import forget_threads, get_ident, thread_local

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

_thread: Any = thread_local()  # `hub`, and `end` of all threads but the main one
_hubs: WeakSet[Hub] = WeakSet()  # those that are not destroyed, for a child of fork
_default_backend = "auto"
_ENDED, _LATE = "its hub has ended", "hub behind the end"  # attributes of a thread's first greenlet

NO_THREAD = -1


def get_hub() -> Hub:
    """Returns the hub of this native thread, making it on first use."""
    try:
        return _thread.hub  # type: ignore[no-any-return]
    except AttributeError:
        return _new_hub()


def hub_of_thread() -> Hub | None:
    """Returns the hub of this native thread, or None if it has none yet."""
    try:
        return _thread.hub  # type: ignore[no-any-return]
    except AttributeError:
        return None


def forget_hub(hub: Hub) -> None:
    """Has the thread of a destroyed hub get a new one when it asks."""
    _hubs.discard(hub)
    if hub_of_thread() is hub:
        del _thread.hub


def set_default_backend(name: str) -> None:
    """Chooses the backend of hubs made from now on: auto, epoll or poll."""
    global _default_backend
    if name not in BACKENDS:
        raise ValueError(f"loop backend {name!r} is unknown: choose one of {', '.join(BACKENDS)}")
    _default_backend = name


class _ThreadEnd:
    """Lives as long as the thread that holds it: its locals are dropped at its end."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __del__(self, get_ident: Any = get_ident) -> None:  # a default: the module may be emptied before
        hub = self.hub
        if hub.thread_ident == get_ident():  # not in a forked child: the core is shared with the parent
            vars(hub.parent)[_ENDED] = True
            hub.end()
            hub.thread_ident = NO_THREAD  # the next thread may have its number


def _new_hub() -> Hub:
    import streamserve.loop.forker  # noqa: F401 - a child of fork must not have to import
    from streamserve.loop.hub import Hub  # it stands on this module
    from streamserve.loop.signals import hear_signals  # likewise

    first = vars(first_greenlet())
    late: Hub | None = first.get(_LATE)
    if late is not None:
        return late
    hub = Hub(_default_backend)
    _hubs.add(hub)
    if _ENDED in first:
        first[_LATE] = hub
        return hub
    if threading.main_thread().ident == get_ident():
        _thread.hub = hub
        try:
            hear_signals(hub)
        except BaseException:
            hub.destroy()  # the next one may hear of them
            raise
        return hub
    end: _ThreadEnd | None = getattr(_thread, "end", None)
    if end is None:
        _thread.end = _ThreadEnd(hub)
    else:
        end.hub, destroyed = hub, end.hub
        destroyed.end()
    _thread.hub = hub
    return hub


def first_greenlet() -> Any:
    """Returns the greenlet that this native thread began with."""
    current = getcurrent()
    while current.parent is not None:
        current = current.parent
    return current


def _after_fork_in_child() -> None:
    forget_threads()
    hub = hub_of_thread()
    for other in [*_hubs]:  # their threads are not in the child, but their epoll sets are the parent's
        if other is not hub:
            lib.ss_loop_abandon(other.core)
            _hubs.discard(other)
    if hub is not None:
        hub.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
