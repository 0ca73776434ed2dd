"""Signals that a child of fork is not to meet with its parent's functions: they are blocked around the fork.

What comes while a child begins would find a function that is about to be replaced, or be dropped by CPython, which
forgets what arrived before the child's first line. Blocked, it waits in the kernel until `in_child` has run.

Functions before a fork are called in reverse order, and some wait (logging takes a lock). So this is the first module
of the package that registers any: nothing runs between its function and the fork, nor before the one that unblocks.
"""

from __future__ import annotations

import os
import signal
from _thread import get_ident
from collections.abc import Callable
from typing import Any

numbers: list[int] = []
"""The signals; none: nothing is done."""

in_child: list[Callable[[], None]] = []
"""Called in a child while they are blocked."""

_masks: dict[int, list[Any]] = {}  # by native thread: what was blocked before, and how many forks it is amid


def _before() -> None:
    amid = _masks.get(get_ident())
    if amid is not None:  # a function that was registered earlier waits, or forks itself
        amid[1] += 1
    elif numbers:
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
    for function in in_child:
        function()
    if amid is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, amid[0])


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
