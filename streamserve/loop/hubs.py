"""The hubs of this process: one per native thread, made on first use.

A thread that ends takes its hub along; a child of fork has one thread, and keeps
that thread's hub, with a fresh loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamserve.core import lib
from streamserve.loop.event_loop import BACKENDS
from streamserve.loop.native_threads import forget_threads
from streamserve.loop.native_threads import get_ident as _get_ident

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

_hubs: dict[int, Hub] = {}  # by thread: half the cost of threading.local
_thread = threading.local()
_default_backend = "auto"


def get_hub() -> Hub:
    """Returns the hub of this native thread, making it on first use."""
    try:
        return _hubs[_get_ident()]
    except KeyError:
        return _new_hub()


def hub_of_thread() -> Hub | None:
    """Returns the hub of this native thread, or None if it has none yet."""
    return _hubs.get(_get_ident())


def forget_hub(hub: Hub) -> None:
    """Has the thread of a destroyed hub get a new one when it asks."""
    if _hubs.get(hub.thread_ident) is hub:
        del _hubs[hub.thread_ident]


def set_default_backend(name: str) -> None:
    """Chooses the backend of hubs made from now on: auto, epoll or poll."""
    global _default_backend
    if name not in BACKENDS:
        raise ValueError(f"loop backend {name!r} is unknown: choose one of {', '.join(BACKENDS)}")
    _default_backend = name


class _ThreadEnd:
    """Lives as long as the thread that holds it: threading.local drops it at the end."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __del__(
        self,
        get_ident: Callable[[], int] = _get_ident,
        forget_hub: Callable[[Hub], None] = forget_hub,
        forget_hubs: Callable[..., Any] = lambda ident, hubs=_hubs: hubs.pop(ident, None),  # also one made by the end
    ) -> None:  # defaults: the module may be emptied before
        hub = self.hub
        if hub.thread_ident == get_ident():  # not in a forked child: the core is shared with the parent
            hub.end()
            forget_hubs(hub.thread_ident)
        else:  # somebody held this beyond the thread's end: the next thread of that number must not get its hub
            forget_hub(hub)


def _new_hub() -> Hub:
    import streamserve.loop.forker  # noqa: F401 - a child of fork must not have to import
    from streamserve.loop.hub import Hub  # it stands on this module
    from streamserve.loop.signals import adopt_functions  # likewise

    hub = Hub(_default_backend)
    main = threading.main_thread().ident == _get_ident()
    if not main:
        _thread.end = _ThreadEnd(hub)  # before it is known: the end of a destroyed one here forgets what is
    _hubs[_get_ident()] = hub
    if main:
        adopt_functions()
    return hub


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
