"""What becomes of an exception that nobody caught, a part of the hub; and what is raised in a greenlet."""

from __future__ import annotations

import sys
import time
import traceback
from types import TracebackType
from typing import Any

from greenlet import GreenletExit


class FailureReports:
    """Reports failures of greenlets and callbacks; assign `handle_error` to do it otherwise.

    Attributes:
        exception_stream: where tracebacks go; None: standard error.
    """

    __slots__ = ()

    exception_stream: Any

    SYSTEM_ERROR: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, SystemError)
    NOT_ERROR: tuple[type[BaseException], ...] = (GreenletExit, SystemExit)

    def throw_main(self, error: BaseException) -> None:
        """Raises an exception in the main greenlet; the hub's."""
        raise NotImplementedError

    def report(self, error: BaseException, context: Any) -> None:
        """Hands an exception that nobody caught to `handle_error`; raises nothing, for it is called amid other work.

        Args:
            error: the exception; call it where that is handled.
            context: what failed, for the report.
        """
        try:
            self.handle_error(context, type(error), error, error.__traceback__)
        except BaseException as failure:  # of a handle_error that the program put there: the report has both
            try:
                FailureReports.handle_error(self, context, type(failure), failure, failure.__traceback__)
            except BaseException as another:  # of a print_exception of its own
                FailureReports.print_exception(self, context, type(another), another, another.__traceback__)

    def handle_error(
        self, context: Any, kind: type[BaseException], value: BaseException, trace: TracebackType | None
    ) -> None:
        """Reports an exception that nobody caught; system errors go to the main greenlet."""
        if issubclass(kind, self.SYSTEM_ERROR):
            self.handle_system_error(kind, value)
        elif not issubclass(kind, self.NOT_ERROR):
            self.print_exception(context, kind, value, trace)

    def handle_system_error(self, kind: type[BaseException], value: BaseException) -> None:
        """Raises KeyboardInterrupt, SystemExit or SystemError in the main greenlet."""
        self.throw_main(value)

    def print_exception(
        self, context: Any, kind: type[BaseException], value: BaseException, trace: TracebackType | None
    ) -> None:
        """Writes the traceback and the greenlet's name to `exception_stream` (default: stderr)."""
        stream = self.exception_stream if self.exception_stream is not None else sys.stderr
        if stream is None:
            return
        try:
            traceback.print_exception(kind, value, trace, file=stream)
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            stream.write(f"{now} {context!r} failed with {kind.__name__}\n\n")
        except BaseException:  # a broken stderr, or context, must not stop the loop
            return


def to_kill_by(exception: Any) -> BaseException:
    """Returns what to raise in a victim; what is no exception ends it by a TypeError that says so."""
    try:
        return as_exception(exception)
    except TypeError as error:
        return error


def as_exception(exception: Any) -> BaseException:
    """Returns what to raise for a class, an instance or (type, value, traceback).

    A class that cannot be called without arguments gives the error of trying.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(exception, tuple):
        kind, value, trace = (*exception, None, None)[:3]
        error = value if isinstance(value, BaseException) else kind(*(() if value is None else (value,)))
        return error.with_traceback(trace) if trace is not None else error
    if isinstance(exception, type) and issubclass(exception, BaseException):
        try:
            return exception()
        except Exception as error:
            return error
    if isinstance(exception, BaseException):
        return exception
    raise TypeError(f"an exception class or instance is needed, not {exception!r}")
