"""The interpreter's end: finalizers run, greenlets do not.

After the last `atexit` function CPython frees what is left, and Python code still runs:
`__del__`, generators that are closed, weak references' functions. greenlet has ended by
then: in its newer releases (3.5 is one) `getcurrent()` raises. Code that cleans up
under a lock, or logs, must not notice. So at exit, where it costs nothing before:
  - each name in this package for greenlet's `getcurrent` gets one that answers with the
    greenlet that ends the interpreter, as no other runs any more;
  - a wait polls by itself: time passes and descriptors become ready as ever. One for
    something that only another greenlet could do raises LoopExit at once, which a lock
    (sync/turns.py) takes as "its holder is gone"; natively it would hang for ever.

Modules may be emptied before the last finalizer: what runs then keeps what it needs in
its closure or its defaults, and does nothing where there is nothing left to clean up.
"""

from __future__ import annotations

import atexit
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent as _getcurrent

from streamserve.errors import LoopExit
from streamserve.loop import waiter as _waiter
from streamserve.loop.hub import Hub
from streamserve.loop.waiter import Waiter
from streamserve.loop.watcher import Side

__all__: list[str] = []


def _current_at_end(first: Any) -> Callable[[], Any]:
    raw = _getcurrent

    def getcurrent() -> Any:
        try:
            return raw()
        except RuntimeError:
            return first

    return getcurrent


def _yield_at_end(yield_turn: Callable[[Hub], None]) -> Callable[[Hub], None]:
    finalizing = sys.is_finalizing

    def yield_alone(hub: Hub) -> None:
        if not finalizing():  # else there is nobody to let run
            yield_turn(hub)

    return yield_alone


def _park_at_end(park: Callable[[Any], Any], first: Any) -> Callable[[Any], Any]:
    finalizing, side, error, empty = sys.is_finalizing, Side, LoopExit, deque

    def park_alone(waiter: Waiter) -> Any:
        """Waits without the hub's greenlet."""
        hub = waiter.hub
        if waiter.done or not finalizing():
            return park(waiter)
        if hub.destroyed or (not isinstance(waiter, side) and waiter not in hub.timers.values()):
            raise error("This operation would block forever: the interpreter ends, and no other greenlet runs", hub)
        aside, hub.ready = hub.ready, empty()  # what would run next never will, and must not be freed either
        waiter.greenlet = first
        first.waiter = waiter
        try:
            while not waiter.done:
                hub.ready.clear()
                hub._poll()
        finally:
            hub.ready = aside
            first.waiter = None
        return park(waiter)

    return park_alone


def _at_exit() -> None:
    first: Any = _getcurrent()
    while first.parent is not None:
        first = first.parent
    replaced = {
        id(_getcurrent): _current_at_end(first),
        id(_waiter.yield_turn): _yield_at_end(_waiter.yield_turn),
    }
    package = __name__.partition(".")[0] + "."
    for name, module in list(sys.modules.items()):
        if not name.startswith(package) or name == __name__:
            continue
        names = vars(module)
        names.update({name: replaced[id(value)] for name, value in list(names.items()) if id(value) in replaced})
    setattr(Waiter, "park", _park_at_end(Waiter.park, first))  # noqa: B010 - a method is no place to assign to


atexit.register(_at_exit)
