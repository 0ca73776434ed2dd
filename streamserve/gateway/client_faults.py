"""Errors that are the client's fault, as the framework of the application knows them.

A framework logs a traceback and answers 500 for an exception that it does not know, and a broken upload is none of its
business. Werkzeug, and Flask above it, has a class for that: an error that is of this class too becomes a quiet 400.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

__all__ = ["known_to_frameworks"]


def known_to_frameworks(error: Exception, status: int, message: str) -> Exception:
    """Returns the error as one that the framework which is loaded answers by itself, if it has such a class.

    Args:
        error: Of a class of ours whose instances keep what they are in their attributes.
        status: What is to be answered.
        message: What the answer says.
    """
    werkzeug = sys.modules.get("werkzeug.exceptions")
    if werkzeug is None:
        return error
    ours: Any = type(error)
    known = _both(ours, werkzeug.ClientDisconnected)
    made: Exception = known.__new__(known, *error.args)
    made.__dict__.update(error.__dict__, code=status, description=message, response=None)
    return made


@cache
def _both(ours: Any, theirs: Any) -> Any:
    return type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__qualname__": ours.__qualname__})
