"""The hubs of this process: one per native thread, made on first use.

A thread that ends takes its hub along; a child of fork has one thread, and keeps
that thread's hub, with a fresh loop.

A hub is found by its thread's locals, not by its number, which the next thread has
again; by that only where the locals were lost (`_lost_hub`).

While a thread ends, what is freed with its locals may still ask for a hub: one that
were put into the locals now would never be freed. The thread's first greenlet holds it,
which ends last.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from greenlet import getcurrent

from streamserve.core import lib
from streamserve.loop.event_loop import BACKENDS
from streamserve.loop.native_threads import forget_threads, get_ident, in_main_thread, thread_local

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

_thread: Any = thread_local()  # `hub`, and `end` of all threads but the main one
_hubs: WeakSet[Hub] = WeakSet()  # those that are not destroyed, for a child of fork
_by_number: dict[int, Hub] = {}  # those that `_thread` knows of, or did, see `_lost_hub`
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
        if _thread is None:  # at the interpreter's end, when this module has been emptied
            return None
        lost = _by_number.get(get_ident())
        return None if lost is None or lost.parent is not first_greenlet() else _new_hub()


def forget_hub(hub: Hub) -> None:
    """Has the thread of a destroyed hub get a new one when it asks."""
    _hubs.discard(hub)
    if _by_number.get(hub.thread_ident) is hub:
        del _by_number[hub.thread_ident]
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

    hub: Hub | None = None

    def __del__(self, get_ident: Any = get_ident, frame: Any = sys._getframe) -> None:
        """Ends the hub. The defaults are there when the module has been emptied."""
        hub = self.hub
        if hub is None or hub.thread_ident != get_ident():  # in a forked child: the core is shared with the parent
            return
        try:
            frame(1)
        except ValueError:  # nothing of the thread runs any more; else see `_lost_hub`
            vars(hub.parent)[_ENDED] = True
            hub.end()
            hub.thread_ident = NO_THREAD  # the next thread may have its number


def _new_hub() -> Hub:
    """Makes a hub. Meanwhile a finalizer may do so as well, and is quicker then."""
    import streamserve.loop.forker  # noqa: F401 - a child of fork must not have to import
    from streamserve.loop.hub import Hub  # it stands on this module
    from streamserve.loop.signals import hear_signals  # likewise

    first = first_greenlet()
    late: Hub | None = vars(first).get(_LATE)
    if late is not None:
        return late
    lost = _lost_hub(first)
    hub = Hub(_default_backend) if lost is None else lost
    _hubs.add(hub)
    if _ENDED in vars(first):
        return _the_first(vars(first), _LATE, hub)
    held = _the_first(vars(_thread), "hub", hub)
    if held is not hub:
        return held
    _by_number[get_ident()] = hub
    if not in_main_thread():
        _end_with_thread(hub)
    elif hub is not lost:
        try:
            hear_signals(hub)
        except BaseException:
            hub.destroy()  # the next one may hear of them
            raise
    return hub


def _lost_hub(first: Any) -> Hub | None:
    """Returns the hub that this thread has, though its locals do not say so.

    CPython 3.11 makes a thread's dictionary, and the locals in it, where they are first asked for. A finalizer that
    runs amid that makes them, too, and what it puts there is lost: freed at once, or never.
    """
    hub = _by_number.get(get_ident())
    if hub is None or hub.parent is first:
        return hub
    if hub_of_thread() is hub and not hub:  # made amid the making of `first`, see Hub.reach
        hub.parent = first
        return hub
    hub.destroy()  # of a thread before, whose end nobody noticed; or it has begun where nobody can reach it
    return None


def _the_first(place: dict[str, Any], name: str, hub: Hub) -> Hub:
    """Puts the hub there, unless one is; returns the one that is there then."""
    held: Hub = place.setdefault(name, hub)
    if held is not hub:
        hub.destroy()
    return held


def _end_with_thread(hub: Hub) -> None:
    end: _ThreadEnd = vars(_thread).setdefault("end", _ThreadEnd())
    before, end.hub = end.hub, hub
    if before is not None and before is not hub:  # it was destroyed
        before.end()


def first_greenlet() -> Any:
    """Returns the greenlet that this native thread began with."""
    current = getcurrent()
    while current.parent is not None:
        current = current.parent
    return current


def _after_fork_in_child() -> None:
    forget_threads()
    hub = hub_of_thread()
    _by_number.clear()
    if hub is not None:
        _by_number[get_ident()] = hub
    for other in [*_hubs]:  # their threads are not in the child, but their epoll sets are the parent's
        if other is not hub:
            lib.ss_loop_abandon(other.core)
            _hubs.discard(other)
    if hub is not None:
        hub.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
