"""Locks: Semaphore, BoundedSemaphore, DummySemaphore, RLock, and Lock, which is the standard library's.

All are fair and have no native lock inside; turns.py, on which they stand, says how. A test
and the store that follows it are one step here only as long as no call stands between them.
"""

from __future__ import annotations

from sys import is_finalizing
from typing import Any

from greenlet import getcurrent

from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import TIMEOUT_MAX
from streamserve.sync.line import park_within
from streamserve.sync.turns import Lookout, Turns

__all__ = ["BoundedSemaphore", "DummySemaphore", "Lock", "RLock", "Semaphore"]

_UNLIMITED = -1
"""How the standard library writes "no timeout"; compared by identity, which a small int allows."""


class Semaphore(Turns):
    """A number that `acquire` lowers and `release` raises; below zero it makes wait. Any native thread may use it.

    Args:
        value: how many can be acquired at first.

    Raises:
        ValueError: value is negative.
    """

    __slots__ = ()

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError(f"semaphore initial value must be >= 0, not {value!r}")
        self.counter = int(value)
        self._waiters = None

    def acquire(self, blocking: bool = True, timeout: Any = None) -> bool:
        """Takes one.

        Args:
            blocking: False: do not wait.
            timeout: seconds to wait at most; None: no limit.

        Returns:
            False if there was none (in time).
        """
        if self.counter > 0:
            self.counter -= 1
            return True
        return self._take(timeout) if blocking else False

    __enter__ = acquire

    def release(self) -> int:
        """Gives one back, to the first who waits if somebody does; returns how many are free then."""
        if self._waiters:
            self._hand_over()
        else:
            self.counter += 1
        return self.counter

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.release()

    def wait(self, timeout: Any = None) -> int:
        """Waits until one can be acquired, without acquiring it.

        Args:
            timeout: seconds at most; None: no limit.

        Returns:
            How many are free: 0 after the time was up, or if somebody else took it since.
        """
        if self.counter > 0:
            return self.counter
        waiters = self._waitlist()
        waiter = Lookout(get_hub())
        waiters.append(waiter)
        try:
            if self.counter <= 0:
                park_within(waiter, timeout)
        finally:
            waiters.withdraw(waiter)
        return self.counter


class BoundedSemaphore(Semaphore):
    """A Semaphore that cannot be released more often than it was acquired.

    Raises:
        ValueError: value is negative; or, by `release`, it was released too often.
    """

    __slots__ = ("_initial_value",)

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._initial_value = self.counter

    def release(self) -> int:
        """Gives one back, to the first who waits if somebody does; returns how many are free then."""
        if self.counter >= self._initial_value:
            raise ValueError(f"Semaphore released too many times: all {self._initial_value} are free")
        if self._waiters:
            self._hand_over()
        else:
            self.counter += 1
        return self.counter

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self.counter = self._initial_value


class DummySemaphore:
    """Has the methods of a Semaphore and never makes anybody wait."""

    __slots__ = ("__weakref__",)

    def __init__(self, value: int | None = None) -> None:
        """The value is ignored."""

    def acquire(self, blocking: bool = True, timeout: Any = None) -> bool:
        """Returns True."""
        return True

    def release(self) -> None:
        """Does nothing."""

    def locked(self) -> bool:
        """False: it is always free."""
        return False

    def ready(self) -> bool:
        """True: it is always free."""
        return True

    def wait(self, timeout: Any = None) -> int:
        """Returns 1: one can be acquired."""
        return 1

    def rawlink(self, callback: Any) -> None:
        """Does nothing."""

    def unlink(self, callback: Any) -> None:
        """Does nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass


def _limit(blocking: Any, timeout: Any) -> Any:
    """Returns the seconds to wait, None without limit; refuses what the standard library's locks refuse."""
    if timeout is None or timeout == _UNLIMITED:
        return None if blocking else 0
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call: leave it out, or block")
    if isinstance(timeout, BaseException):
        return timeout
    if timeout > TIMEOUT_MAX:
        raise OverflowError(f"timeout value is too large: {timeout!r} s, at most {TIMEOUT_MAX:.0f}; -1 has no limit")
    if not timeout >= 0:
        raise ValueError(f"timeout value must be a non-negative number, or -1 for no limit, not {timeout!r}")
    return timeout


def _state(lock: Turns) -> str:
    """How the standard library's locks begin their text."""
    kind = type(lock)
    return f"{'locked' if lock.locked() else 'unlocked'} {kind.__module__}.{kind.__qualname__} object"


class Lock(Turns):
    """A lock with the arguments and the errors of `threading.Lock`; whoever comes may release it."""

    __slots__ = ()

    def __init__(self) -> None:
        self.counter = 1
        self._waiters = None

    def acquire(self, blocking: bool = True, timeout: Any = _UNLIMITED) -> bool:
        """Takes the lock.

        Args:
            blocking: False: do not wait.
            timeout: seconds to wait at most; 0: do not wait; -1: no limit.

        Returns:
            False if it was not free (in time).

        Raises:
            ValueError: a timeout for a call that does not block, or a negative one.
            OverflowError: timeout is more than `threading.TIMEOUT_MAX`.
        """
        if timeout is not _UNLIMITED:
            timeout = _limit(blocking, timeout)
            blocking = timeout != 0
        else:
            timeout = None
        if self.counter > 0:
            self.counter -= 1
            return True
        return self._take(timeout) if blocking else self._busy()

    __enter__ = acquire

    def _busy(self) -> bool:
        """What a call that must not wait returns when the lock is taken; green/thread.py has more to do there."""
        return False

    def release(self) -> None:
        """Gives the lock to the first who waits; without one, it is free.

        Raises:
            RuntimeError: it is free already.
        """
        if self.counter > 0:
            raise RuntimeError("release unlocked lock")
        if self._waiters:
            self._hand_over()
        else:
            self.counter += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self.counter = 1

    def __repr__(self) -> str:
        return f"<{_state(self)} at {id(self):#x}, {self.linkcount()} waiting>"


class RLock(Turns):
    """A lock that its owner, a greenlet, can take again; it is free after as many releases.

    The owner is the greenlet that runs, not its Greenlet handle: runners go from one request to
    the next, so a lock that is still held when a request ends is held by whatever runs there next.
    """

    __slots__ = ("_count", "_owner")

    def __init__(self) -> None:
        self.counter = 1
        self._count = 0
        self._owner: Any = None
        self._waiters = None

    def acquire(self, blocking: bool = True, timeout: Any = _UNLIMITED) -> bool:
        """Takes the lock, once more if it is this greenlet's.

        Args, Returns and Raises: those of `Lock.acquire`.
        """
        if timeout is not _UNLIMITED:
            timeout = _limit(blocking, timeout)
            blocking = timeout != 0
        else:
            timeout = None
        current = getcurrent()
        if self._owner is current:
            self._count += 1
            return True
        if self.counter > 0:
            self.counter -= 1
        elif not blocking or not self._take(timeout):
            return False
        self._owner = current
        self._count = 1
        return True

    __enter__ = acquire

    def release(self) -> None:
        """Undoes one acquire; after the last one the lock goes to the first who waits.

        Raises:
            RuntimeError: it belongs to another greenlet, or to none.
        """
        if self._owner is not getcurrent() and not is_finalizing():  # at the end, whoever runs cleans up for all
            raise RuntimeError(f"cannot release un-acquired lock: its owner is {self._owner!r}")
        self._count -= 1
        if not self._count:
            self._owner = None
            if self._waiters:
                self._hand_over()
            else:
                self.counter += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.release()

    # ---- what threading.Condition asks of a lock

    def _is_owned(self) -> bool:
        return self._owner is getcurrent()

    def _recursion_count(self) -> int:
        return self._count if self._owner is getcurrent() else 0

    def _release_save(self) -> tuple[int, Any]:
        if self._owner is not getcurrent():
            raise RuntimeError(f"cannot release un-acquired lock: its owner is {self._owner!r}")
        saved = self._count, self._owner
        self._count = 1
        self.release()
        return saved

    def _acquire_restore(self, saved: tuple[int, Any]) -> None:
        self.acquire()
        self._count, self._owner = saved

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self.counter = 1
        self._count = 0
        self._owner = None

    def __repr__(self) -> str:
        owner, count = self._owner, self._count
        return f"<{_state(self)} owner={owner!r} count={count} at {id(self):#x}, {self.linkcount()} waiting>"
