"""Signals of the process that serves, and of no other.

A child that its application forks, a worker of a `multiprocessing.Pool` for one, would have their functions, too:
`terminate()` would stop a server that does not run there, and the child would not end. So it has what was set before,
and from its first moment on: they are blocked around the fork, so none finds a function that is about to be replaced.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from streamserve import signal_handler
from streamserve.loop.native_threads import get_ident
from streamserve.loop.signals import SignalHandler

__all__ = ["on_signal"]

_handlers: list[SignalHandler] = []
_masks: dict[int, Any] = {}  # what was blocked before, of the native threads that are about to fork


def on_signal(number: int, function: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """Calls the function in a new greenlet when the signal arrives in this process; returns what ends that."""
    handler = signal_handler(number, function, *args)
    _handlers.append(handler)

    def cancel() -> None:
        handler.cancel()
        if handler in _handlers:  # not in a child
            _handlers.remove(handler)

    return cancel


def _before_fork() -> None:
    if _handlers:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [handler.signum for handler in _handlers])


def _after_fork_in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    handlers, _handlers[:] = _handlers[:], ()
    for handler in reversed(handlers):
        handler.cancel()
    mask = _masks.get(get_ident())
    _masks.clear()
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
