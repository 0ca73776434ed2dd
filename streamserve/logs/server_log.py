"""The log of the server: one line per event on standard error."""

import logging
import os
import sys
import time

from streamserve.logs.log_config import apply_log_config

__all__ = ["configure_logging", "write_past_locks"]

NAMES = ("streamserve", "streamserve.engine", "streamserve.server", "streamserve.websocket", "streamserve.wsgi")
"""The loggers of this package, also those of rooms that nobody has imported yet."""

FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

WITH_HANDLERS = ("socketio.server", "engineio.server")
"""Loggers that get a handler without a format from their packages, even beside an application's own handlers."""


class SteadyLogger(logging.Logger):
    """A logger that `disable_existing_loggers` does not silence, whenever an application configures its logging.

    dictConfig and fileConfig disable every logger that they do not name. Whoever names ours, by a level or handlers of
    its own, is obeyed.
    """

    @property
    def disabled(self) -> bool:
        """Always False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


class Lines(logging.Formatter):
    """Lines with the local time, to the millisecond, and its zone."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The time of a record."""
        return time_shown(record.created)


def time_shown(now: float) -> str:
    """A Unix time as lines have it: `2026-11-24 09:41:00.123 +0000`."""
    local = time.localtime(now)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{int(now % 1 * 1000):03d} {time.strftime('%z', local)}"


def configure_logging(level: str, config: str = "") -> None:
    """Sends what the server logs to standard error, apart from the application's own logging.

    Call it before the application is loaded, for what that has to say, and again behind it: what the application did
    to these loggers is undone. What `logging.config.dictConfig` does later does not silence them.

    Args:
        level: The least severe level to write, as the setting log_level has it.
        config: A file that says more, see log_config.py; "": none.

    Raises:
        ConfigurationError: The file says nothing that can be.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(FORMAT))
    for name in WITH_HANDLERS:
        _join(logging.getLogger(name), handler)
    root = logging.getLogger("streamserve")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    for name in NAMES:
        logging.getLogger(name).__class__ = SteadyLogger
    if config:
        apply_log_config(config)


def _join(logger: logging.Logger, handler: logging.Handler) -> None:
    """Writes what a package writes by a bare handler as the server's lines are, or leaves it to the application."""
    bare = [own for own in logger.handlers if type(own) is logging.StreamHandler and own.formatter is None]
    for own in bare:
        logger.removeHandler(own)
    if bare and not logging.root.handlers:
        logger.addHandler(handler)


def write_past_locks(level: int, text: str) -> None:
    """Writes a record to standard error without the locks of logging and of its stream.

    For what must be said while a greenlet may hold them and does not go on, and from where nothing may wait: another
    native thread, a signal's handler.

    Args:
        level: One of logging's levels, which is shown; log_level does not silence it.
        text: The message; it may have several lines.
    """
    data = f"{time_shown(time.time())} {logging.getLevelName(level):<7} {text}\n".encode(errors="backslashreplace")
    try:
        while data:
            data = data[os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, data) :]
    except (OSError, ValueError):  # closed, or a pipe that is full and does not wait: nobody could be told
        return
