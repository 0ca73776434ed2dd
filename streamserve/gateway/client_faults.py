"""Errors that are the client's fault, as the framework of the application knows them.

A framework logs a traceback and answers 500 for an exception that it does not know, and a broken upload is none of its
business. Werkzeug, and Flask above it, has a class for that: an error that is of this class too becomes a quiet 400.
Django has none. Its own documentation keeps such tracebacks out of the log by a filter (`skip_unreadable_post`); that
is put in here, and its 500 becomes the 400 that the server has for the error.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import Any

from streamserve.errors import ClientGone, RemoteProtocolError

__all__ = ["client_gone", "end_in_frameworks", "known_to_frameworks"]

_log = logging.getLogger("streamserve.wsgi")

CLIENT_GONE = 499
"""The status that nginx has in its access log for a request whose client has left; it is not sent."""


def known_to_frameworks(error: RemoteProtocolError) -> RemoteProtocolError:
    """Returns the error as one that the framework which is loaded answers by itself, if it has such a class.

    Args:
        error: Of a class whose instances keep what they are in their attributes.
    """
    if "django" in sys.modules:
        quieten(logging.getLogger("django.request"), type(error))
    werkzeug = sys.modules.get("werkzeug.exceptions")
    if werkzeug is None:
        return error
    ours: Any = type(error)
    known = _both(ours, werkzeug.ClientDisconnected)
    made: RemoteProtocolError = known.__new__(known, *error.args)
    made.__dict__.update(error.__dict__, code=error.status, description=error.message, response=None)
    return made


def client_gone() -> ClientGone:
    """What is raised where a request waits whose client has left.

    Frameworks handle what is an Exception, which it is not: they let it pass, and log nothing. Where an application
    has made an error of its own of it, Django would log that with a traceback.
    """
    if "django" in sys.modules:
        quieten(logging.getLogger("django.request"), ClientGone)
    return ClientGone("the client went away while its request waited")


def end_in_frameworks() -> None:
    """Tells Django that a request is over which ended by what is no Exception: ClientGone, a kill, a Timeout.

    Django tells itself when it closes its response, and makes one of every Exception. By that it gives connections of
    databases back to their pool, or closes them. Its ASGI handler does the same where a client has left.
    """
    wsgi, signals = sys.modules.get("django.core.handlers.wsgi"), sys.modules.get("django.core.signals")
    if wsgi is None or signals is None:
        return
    try:
        signals.request_finished.send_robust(sender=wsgi.WSGIHandler)
    except BaseException:  # a kill, while it waits
        _log.exception("the end of a request could not be told to Django")


class Quiet(logging.Filter):
    """Drops what is logged of an error, or of one that was raised from it."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        while error is not None and not isinstance(error, self.kind):
            error = error.__cause__
        return error is None


def quieten(logger: logging.Logger, kind: type[BaseException]) -> None:
    """Has a logger drop errors of that kind, once."""
    if not any(isinstance(known, Quiet) and known.kind is kind for known in logger.filters):
        logger.addFilter(Quiet(kind))


@cache
def _both(ours: Any, theirs: Any) -> Any:
    return type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__qualname__": ours.__qualname__})
