"""How errors reach greenlets, a part of the hub: where they wait, where they next wait, or where they left by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent
from greenlet import greenlet as RawGreenlet

from streamserve.loop.signal_functions import Arrival


class Interruption:
    """Raises exceptions in greenlets of the hub."""

    __slots__ = ()

    destroyed: bool
    forker: Any
    interrupts: dict[RawGreenlet, list[Any]]
    parent: Any
    ready: deque[Any]
    run_callback: Callable[..., Any]

    def interrupt(self, target: Any, error: BaseException) -> bool:
        """Raises `error` in another greenlet of this hub, where it waits or when it next waits.

        Returns True if it is parked, so that the error is certainly on its way.
        """
        waiter = getattr(target, "waiter", None)
        if waiter is not None and waiter.fail(error):
            return True
        if waiter is None and self._left_by_hand(target):
            self.run_callback(self._throw, target, getattr(target, "task", None), error)
            return True
        self.interrupts.setdefault(target, []).append(error)
        return True

    def _left_by_hand(self, target: Any) -> bool:
        """True if the greenlet called `hub.switch()` or another's: nothing here is going to switch to it."""
        return target.gr_frame is not None and target is not getcurrent() and target not in self.ready

    def _throw(self, target: Any, task: Any, error: BaseException) -> None:
        """Raises an error where a greenlet called `hub.switch()`, if it is still there; in the hub."""
        if target.dead or getattr(target, "task", None) is not task:
            return  # it has ended, and its runner went on
        if getattr(target, "waiter", None) is None and self._left_by_hand(target):
            target.throw(error)
        else:
            self.interrupt(target, error)

    def throw_main(self, error: BaseException) -> None:
        """Raises an error in the main greenlet, or what stands for it."""
        main: Any = self.parent
        if self.forker is not None:
            self.forker.throw(self, error)
        elif self.destroyed:
            main.waiter = None
            main.throw(error)
        else:
            self.withdraw_interrupt(main, error)  # Ctrl-C that a greenlet got which never waits
            if not main.dead and not self.interrupt(main, error):
                main.throw(error)

    def raise_interrupt(self, current: Any) -> None:
        """Raises the first error that waits for this greenlet, if one does; calls signals before it."""
        while True:
            errors = self.interrupts.get(current)
            if errors is None:
                return
            if len(errors) == 1:
                del self.interrupts[current]
            first = errors.pop(0)
            if first.__class__ is not Arrival:
                del current
                try:
                    raise first
                finally:
                    first = None  # its traceback has this frame
            first.call()

    def withdraw_interrupt(self, target: Any, error: Any) -> None:
        """Forgets an error, or a signal, that was not raised yet."""
        errors = self.interrupts.get(target)
        if errors and error in errors:
            errors.remove(error)
            if not errors:
                del self.interrupts[target]
