"""AsyncResult: a value or an exception that one side sets and others wait for."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from streamserve.loop.failures import as_exception
from streamserve.loop.hubs import get_hub
from streamserve.loop.timeout import Timeout
from streamserve.loop.waiter import Waiter
from streamserve.sync.line import Linkable, park_within


class AsyncResult(Linkable):
    """A value or an exception, whichever somebody sets first; of two values the later one counts.

    Any native thread, signal handler or finalizer may set it. Called with a greenlet or
    another result that has ended, it takes over what that ended with, so it can be a link.

    Example:
        >>> result = AsyncResult()
        >>> spawn(pow, 2, 10).link(result)
        >>> result.get()
        1024
    """

    # One store sets it: nobody ever sees a value beside another's exception.
    __slots__ = ("_outcome",)

    _outcome: tuple[Any, BaseException | None, TracebackType | None] | None

    def __init__(self) -> None:
        self._outcome = self._waiters = None

    # ---- setting it

    def set(self, value: Any = None) -> None:
        """Stores the value and wakes all that wait, in order; without effect if there is an exception."""
        outcome = self._outcome
        if outcome is not None and outcome[1] is not None:
            return
        self._outcome = (value, None, None)
        if self._waiters:
            self._tell()

    set_result = set

    def set_exception(self, exception: Any, exc_info: Any = None) -> None:
        """Stores an exception, to be raised by `get`, and wakes all that wait; without effect if there is a value.

        Args:
            exception: an instance, or a class.
            exc_info: (type, value, traceback): where it comes from.

        Raises:
            TypeError: exception is none.
        """
        trace = exc_info[2] if exc_info else None
        error = as_exception(exception)
        if self._outcome is not None and self._outcome[1] is None:
            return
        self._outcome = (None, error, trace)
        if self._waiters:
            self._tell()

    def __call__(self, source: Any) -> None:
        """Takes over what a greenlet or result ended with."""
        if source.successful():
            self.set(source.value)
        else:
            self.set_exception(source.exception, getattr(source, "exc_info", None))

    def _tell(self) -> None:
        waiters = self._waiters
        while waiters:
            try:
                first = waiters.popleft()
            except IndexError:  # the last one gave up meanwhile
                return
            first.wake_threadsafe()

    # ---- waiting for it

    def get(self, block: bool = True, timeout: Any = None) -> Any:
        """Returns the value, or raises the exception.

        Args:
            block: False: do not wait.
            timeout: seconds to wait at most, or a Timeout, which is then what is raised.

        Raises:
            Timeout: nothing was set (in time).
        """
        if self._outcome is None:
            if block:
                self._wait(timeout)
            if self._outcome is None:
                raise timeout if isinstance(timeout, BaseException) else Timeout(timeout if block else None)
        value, error, trace = self._outcome
        if error is None:
            return value
        try:
            raise error.with_traceback(trace)
        finally:
            del self, error, trace  # the traceback holds this frame: they would hold each other

    def get_nowait(self) -> Any:
        """Returns the value or raises the exception; Timeout if there is none yet."""
        return self.get(block=False)

    def result(self, timeout: Any = None) -> Any:
        """The same as `get(timeout=timeout)`, as futures name it."""
        return self.get(timeout=timeout)

    def wait(self, timeout: Any = None) -> Any:
        """Waits until something is set; returns the value, or None after an exception or `timeout` seconds."""
        if self._outcome is None:
            self._wait(timeout)
        return self.value

    def _wait(self, timeout: Any) -> None:
        waiters = self._waiters
        if waiters is None:
            waiters = self._waitlist()
        waiter = Waiter(get_hub())
        waiters.append(waiter)
        if self._outcome is not None:  # set since the caller looked
            waiters.withdraw(waiter)
            return
        if timeout is None:
            try:
                waiter.park()
            except BaseException:
                waiters.withdraw(waiter)
                raise
            return
        try:
            park_within(waiter, timeout)
        finally:
            waiters.withdraw(waiter)

    # ---- what it is

    def ready(self) -> bool:
        """True once a value or an exception was set."""
        return self._outcome is not None

    done = ready

    def successful(self) -> bool:
        """True once a value was set."""
        outcome = self._outcome
        return outcome is not None and outcome[1] is None

    @property
    def value(self) -> Any:
        """The value; None if there is none."""
        outcome = self._outcome
        return outcome[0] if outcome is not None else None

    @property
    def exception(self) -> BaseException | None:
        """The exception, or None."""
        outcome = self._outcome
        return outcome[1] if outcome is not None else None

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, TracebackType | None] | tuple[()]:
        """(type, value, traceback) of the exception, or ()."""
        outcome = self._outcome
        if outcome is None or outcome[1] is None:
            return ()
        return type(outcome[1]), outcome[1], outcome[2]

    def cancel(self) -> bool:
        """False: what sets a result cannot be stopped from here."""
        return False

    def cancelled(self) -> bool:
        """False: see `cancel`."""
        return False

    def __repr__(self) -> str:
        outcome = self._outcome
        if outcome is None:
            state = "unset"
        elif outcome[1] is None:
            state = f"value={outcome[0]!r:.80}"
        else:
            state = f"exception={outcome[1]!r}"
        return f"<{type(self).__name__} {state}, {self.linkcount()} waiting>"
