"""The log of the server: one line per event on standard error."""

import logging
import os
import sys
import time

__all__ = ["configure_logging", "write_past_locks"]

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"

WITH_HANDLERS = ("socketio.server", "engineio.server")
"""Loggers that get a handler without a format from their packages, even beside an application's own handlers."""


def configure_logging(level: str) -> None:
    """Sends what the server logs to standard error, apart from the application's own logging.

    Call it once the application is loaded: `logging.config.dictConfig` silences loggers that exist already, and they
    are given their voice again here.

    Args:
        level: The least severe level to write, as the setting log_level has it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, TIME_FORMAT))
    for name in WITH_HANDLERS:
        _join(logging.getLogger(name), handler)
    root = logging.getLogger("streamserve")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and (name == "streamserve" or name.startswith("streamserve.")):
            logger.disabled = False


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
    now = time.time()
    moment = f"{time.strftime(TIME_FORMAT, time.localtime(now))}.{int(now % 1 * 1000):03d}"
    data = f"{moment} {logging.getLevelName(level):<7} {text}\n".encode(errors="backslashreplace")
    try:
        while data:
            data = data[os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, data) :]
    except (OSError, ValueError):  # closed, or a pipe that is full and does not wait: nobody could be told
        return
