"""gevent's and eventlet's own patching is left out here, and said to be.

Whoever comes from `gunicorn -k gevent` has `monkey.patch_all()` in the first line of the application. Carried out on
top of what is patched here, it puts a second loop under the same calls: the first request that waits then waits in a
loop that nobody runs, for ever and in silence. Both loops mean the same thing by it, that waiting lets others run; so
their functions do nothing in this process but name the line that can be removed.

Where they came first nothing can be left out: loop/other_patchers.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from greenlet import getcurrent

from streamserve.loop.imports import after_import

__all__ = ["leave_out_others"]

PACKAGES = ("gevent", "eventlet", "psycogreen")

GENERIC = frozenset(["patch_item", "patch_module"])
"""What gevent.monkey has for patches of one's own."""

_told: set[tuple[str, str]] = set()


def leave_out_others() -> None:
    """Has the patching functions of gevent, eventlet and psycogreen do nothing but tell, now or when imported."""
    after_import("gevent.monkey", _leave_out_gevent)
    after_import("eventlet.patcher", lambda module: _replace(module, "monkey_patch"))
    for name in ("psycogreen.gevent", "psycogreen.eventlet"):
        after_import(name, lambda module: _replace(module, "patch_psycopg"))
    after_import("gevent.hub", lambda module: _tell_of_loop(module.Hub, "gevent"))
    after_import("eventlet.hubs.hub", _adapt_eventlet)


def _adapt_eventlet(module: ModuleType) -> None:
    _tell_of_loop(module.BaseHub, "eventlet")
    _keep_parents(module.BaseHub)


def _keep_parents(hub: Any) -> None:
    """Gives a greenlet that waited in eventlet's loop its parent back.

    eventlet makes its loop the parent of whoever waits in it. When one of this package's greenlets ends like that,
    eventlet's loop goes on instead of this one, and sleeps for ever.
    """
    switch: Callable[[Any], Any] = hub.switch

    def keeping(self: Any) -> Any:
        current = getcurrent()
        parent = current.parent
        try:
            return switch(self)
        finally:
            if parent is not None and current.parent is not parent:
                current.parent = parent

    hub.switch = keeping


def _leave_out_gevent(module: ModuleType) -> None:
    for name in list(vars(module)):
        if name.startswith("patch_") and name not in GENERIC and callable(getattr(module, name)):
            _replace(module, name)


def _replace(module: ModuleType, name: str) -> None:
    shown = f"{module.__name__.removesuffix('.patcher')}.{name}()"

    def left_out(*_arguments: Any, **_options: Any) -> bool:
        place = _caller()
        if (shown, place) not in _told:
            _told.add((shown, place))
            _warn("%s in %s is left out: streamserve patches the standard library itself; remove it", shown, place)
        return True

    left_out.__name__ = left_out.__qualname__ = name
    setattr(module, name, left_out)


def _tell_of_loop(hub: Any, package: str) -> None:
    """Warns when the other package's loop comes to life: it works, but for one greenlet at a time."""
    make: Callable[..., None] = hub.__init__

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        if (package, "") not in _told:
            _told.add((package, ""))
            _warn(
                "%s's own loop is used in %s: whatever waits in it holds up every request, and what it spawns runs only"
                " meanwhile; streamserve has gevent's names: take spawn and sleep from there, Event and Queue from"
                " streamserve.sync, Pool from streamserve.pool",
                package, _caller(),
            )  # fmt: skip
        make(self, *arguments, **options)

    hub.__init__ = __init__


def _warn(message: str, *values: Any) -> None:
    import logging  # here: who imports it after patching finds all of this package in its last finalizers

    logging.getLogger("streamserve").warning(message, *values)


def _caller() -> str:
    """The place in the program that called the other package."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_back is not None and _is_between(frame):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}, line {frame.f_lineno}"


def _is_between(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in (*PACKAGES, "streamserve", "importlib") or frame.f_code.co_filename.startswith("<frozen")
