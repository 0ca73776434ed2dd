"""Timeout: an exception that arrives after some seconds, in the greenlet that started it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from streamserve.loop.failures import as_exception
from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub

_UNSET = object()


class Timeout(BaseException):
    """Raised in the current greenlet after `seconds`, unless cancelled before.

    It is a BaseException, so that `except Exception` in the code between does not
    swallow it. As a context manager it starts at the top and ends at the bottom.

    Args:
        seconds: None: never.
        exception: None: the Timeout itself is raised; False: likewise, and the `with`
            block swallows it; a class or an instance: that is raised instead; a string:
            the message.
        ref: whether the timer alone keeps the loop running.

    Example:
        >>> with Timeout(0.01, False):
        ...     sleep(10)
    """

    def __init__(
        self, seconds: float | None = None, exception: Any = None, ref: bool = True, priority: int = -1
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.exception = exception
        self.ref = ref
        self._slot = -1
        self._hub: Hub | None = None
        self._greenlet: Any = None
        self._error: BaseException | None = None  # what is on its way, if not this Timeout itself
        self._sent = False

    def start(self) -> None:
        """Starts the countdown.

        Raises:
            AssertionError: it is running already.
        """
        if self.pending:
            raise AssertionError(f"{self!r} is already started; to restart it, cancel it first")
        if self.seconds is None:
            return
        self._hub = get_hub()
        self._greenlet = getcurrent()
        self._slot = self._hub.start_timer(self.seconds, self, self.ref)

    @classmethod
    def start_new(cls, timeout: Any = None, exception: Any = None, ref: bool = True) -> Timeout:
        """Starts and returns a Timeout; `timeout` may be one, seconds, or None."""
        if isinstance(timeout, Timeout):
            if not timeout.pending:
                timeout.start()
            return timeout
        started = cls(timeout, exception, ref=ref)
        started.start()
        return started

    def fire(self) -> None:
        """The timer ended; called by the hub."""
        self._slot = -1
        target = self._target()
        if target is not None:
            error = self._as_error()
            self._error = None if error is self else error
            self._sent = True
            cast(Hub, self._hub).interrupt(target, error)

    def _target(self) -> Any:
        """What to switch to; None if the greenlet that started this has ended (its runner may run another)."""
        greenlet = self._greenlet
        if isinstance(greenlet, Greenlet):
            return greenlet._runner
        return None if greenlet.dead else greenlet

    def _as_error(self) -> BaseException:
        exception = self.exception
        if exception is None or exception is False or isinstance(exception, str):
            return self
        try:
            return as_exception(exception)
        except TypeError as error:
            return error

    @property
    def pending(self) -> bool:
        """True while the countdown runs."""
        return self._slot >= 0

    def cancel(self) -> None:
        """Stops the countdown; also takes back an exception that is on its way."""
        hub = self._hub
        if hub is None:
            return
        if self._slot >= 0:
            hub.stop_timer(self._slot, self)
            self._slot = -1
        if self._sent:
            hub.withdraw_interrupt(self._target(), self if self._error is None else self._error)
            self._error = None
            self._sent = False

    close = cancel

    def __enter__(self) -> Timeout:
        if not self.pending:
            self.start()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        self.cancel()
        if value is not self or self.exception is not False:
            return False
        self.__traceback__ = None  # it holds the frames that hold this
        return True

    def __lt__(self, other: Any) -> bool:
        return _seconds(self) < _seconds(other)

    def __le__(self, other: Any) -> bool:  # what takes seconds takes a Timeout
        return _seconds(self) <= _seconds(other)

    def __gt__(self, other: Any) -> bool:
        return _seconds(self) > _seconds(other)

    def __ge__(self, other: Any) -> bool:
        return _seconds(self) >= _seconds(other)

    def __str__(self) -> str:
        if self.seconds is None:
            return ""
        suffix = "" if self.seconds == 1 else "s"
        note = "" if self.exception is None else f": {self.exception}"
        if self.exception is False:
            note = " (silent)"
        return f"{self.seconds} second{suffix}{note}"

    def __repr__(self) -> str:
        exception = "" if self.exception is None else f" exception={self.exception!r}"
        state = " pending" if self.pending else ""
        return f"<{type(self).__name__} at {id(self):#x} seconds={self.seconds}{exception}{state}>"


def _seconds(timeout: Any) -> float:
    seconds = timeout.seconds if isinstance(timeout, Timeout) else timeout
    return float("inf") if seconds is None else seconds


def within(timeout: Any, function: Callable[[], object]) -> bool:
    """Calls the function, for a number of seconds, or those of a Timeout, at most (None: no limit).

    Returns:
        False: the time was up first.
    """
    if timeout is None:
        function()
        return True
    limit = Timeout.start_new(timeout)
    try:
        function()
    except BaseException as error:
        if error is not limit:
            raise
        limit.__traceback__ = None  # it holds this frame
        return False
    finally:
        limit.cancel()
        del limit
    return True


def with_timeout(seconds: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls the function; if it takes more than `seconds`, ends it.

    Args:
        seconds: None: no limit; a Timeout: that one is started.
        timeout_value: keyword; returned instead of raising Timeout.

    Raises:
        Timeout: time ran out and no timeout_value was given.
    """
    fallback = kwargs.pop("timeout_value", _UNSET)
    timeout = Timeout.start_new(seconds)
    try:
        return function(*args, **kwargs)
    except Timeout as expired:
        if expired is timeout and fallback is not _UNSET:
            timeout.__traceback__ = None  # it holds this frame, which holds the timeout
            return fallback
        raise
    finally:
        timeout.cancel()
        del timeout  # its traceback holds this frame: they would hold each other
