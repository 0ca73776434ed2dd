"""Signals that a child of fork is not to meet with its parent's functions: they are blocked around the fork.

What comes while a child begins would find a function that is about to be replaced, or be dropped by CPython, which
forgets what arrived before the child's first line. Blocked, it waits in the kernel until the child has what was set
before those functions.

Functions before a fork are called in reverse order, and some wait (logging takes a lock). So this is the first module
of the package that registers any: nothing runs between its function and the fork, nor before the one that unblocks.
"""

from __future__ import annotations

import os
import signal
from _thread import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamserve.loop.signals import SignalHandler

handlers: list[SignalHandler] = []
"""Those that are cancelled in a child; none: nothing is done."""

_masks: dict[int, list[Any]] = {}  # by native thread: what was blocked before, and how many forks it is amid


def _before() -> None:
    amid = _masks.get(get_ident())
    if amid is not None:  # a function that was registered earlier waits, or forks itself
        amid[1] += 1
    elif handlers:
        numbers = [handler.signum for handler in handlers]
        _masks[get_ident()] = [signal.pthread_sigmask(signal.SIG_BLOCK, numbers), 1]


def _after_in_parent() -> None:
    amid = _masks.get(get_ident())
    if amid is None:
        return
    amid[1] -= 1
    if not amid[1]:
        del _masks[get_ident()]
        signal.pthread_sigmask(signal.SIG_SETMASK, amid[0])


def _after_in_child() -> None:
    amid = _masks.get(get_ident())
    _masks.clear()
    while handlers:
        handlers.pop().cancel()
    if amid is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, amid[0])


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
