"""Calling the handlers of connect and disconnect, which programs write with and without their last argument.

python-socketio finds out by the TypeError of a call, and so calls a handler that raises one itself a second time. Here
the handler is looked at before, and called once. One that takes any number, as decorators do and Flask-SocketIO's, is
called again only if the error is that of a call with too many arguments.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import CodeType, MethodType
from typing import Any

from socketio.namespace import Namespace

__all__ = ["HandlerFailed", "call", "call_class"]


TOO_MANY = "positional argument"
"""What CPython says of a call with more than a function takes, or fewer."""


class HandlerFailed(Exception):
    """A connect handler raised TypeError, which python-socketio would take for a sign of its signature."""


def call(handler: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Calls a handler, without the last argument if it takes one less."""
    most = _most(handler)
    if most == len(args) - 1:
        return handler(*args[:-1])
    try:
        return handler(*args)
    except TypeError as error:
        if most is not math.inf or TOO_MANY not in str(error):
            raise
    return handler(*args[:-1])


def call_class(handler: Any, event: str, args: tuple[Any, ...]) -> Any:
    """Has the class of a namespace handle an event, by its method if it dispatches as python-socketio does."""
    if type(handler).trigger_event is not Namespace.trigger_event:
        return handler.trigger_event(event, *args)
    method = getattr(handler, f"on_{event}", None)
    return None if method is None else call(method, args)


def _most(handler: Callable[..., Any]) -> float:
    """How many positional arguments a handler takes; infinity for any number."""
    code = getattr(handler, "__code__", None)
    if code.__class__ is CodeType:  # a function or method; what it wraps may take others
        most: int = code.co_argcount - (handler.__class__ is MethodType)
        return math.inf if code.co_flags & inspect.CO_VARARGS else most
    try:
        kinds = [parameter.kind for parameter in inspect.signature(handler, follow_wrapped=False).parameters.values()]
    except (TypeError, ValueError):  # a built-in that does not tell
        return math.inf
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return math.inf
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
