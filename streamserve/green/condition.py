"""`threading.Condition.wait` for greenlets, which can be killed or timed out where a thread cannot.

The standard library's own loses a notification that meets a kill: the waiter is off the list, and never looks. It is
passed on here, to the next who waits. And who is killed while it takes the lock again gets it all the same, as the
`with` around it expects.
"""

from __future__ import annotations

from typing import Any

from streamserve.errors import LoopExit
from streamserve.green.thread import LockType, RLock

__all__ = ["wait"]


def wait(self: Any, timeout: float | None = None) -> bool:
    """Wait until notified or until a timeout occurs."""
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = LockType()
    waiter.acquire()
    self._waiters.append(waiter)
    saved = self._release_save()
    error: BaseException | None = None
    try:
        if timeout is None:
            waiter.acquire()
        elif timeout > 0:
            waiter.acquire(True, timeout)
        else:
            waiter.acquire(False)
    except BaseException as raised:
        error = raised
    error = _take_again(self, saved, error)
    try:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            notified = False
        else:
            notified = True
            if error is not None:
                self.notify()
        if error is not None:
            raise error
        return notified
    finally:
        del error  # its traceback holds this frame


def _take_again(condition: Any, saved: Any, error: BaseException | None) -> BaseException | None:
    """Takes the lock again, whatever is raised meanwhile; returns what is to be raised after that."""
    while True:
        try:
            condition._acquire_restore(saved)
            return error
        except LoopExit:
            raise
        except BaseException as raised:
            if type(condition._lock) not in (LockType, RLock):  # what another lock raises is its own affair
                raise
            error = raised
