"""The child of a fork that a greenlet called: that greenlet is its main one.

The main greenlet waits in the parent, as all others do, so it must not go on here, not even to run its `finally`
blocks: they end what is the parent's. What would be raised in it is raised in the greenlet that called fork; when that
one has ended and nothing is left to happen, the process ends. Threads do the same: in the child there is only the one
that forked, and its end is that of the process.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent as _current

from streamserve.errors import HubDestroyed, LoopExit
from streamserve.loop.greenlet import Greenlet, getcurrent

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell reports it."""


class Forker:
    """The greenlet that called fork, in the child."""

    __slots__ = ("_greenlet",)

    def __init__(self, main: Any) -> None:
        self._greenlet = getcurrent()
        waiter = getattr(main, "waiter", None)
        if waiter is not None:
            waiter.done = True  # so nothing here ends its wait, be it the end of the greenlet that forked

    def _raw(self) -> Any:
        """What to switch to; None once it has ended."""
        greenlet = self._greenlet
        if isinstance(greenlet, Greenlet):
            return greenlet._runner
        return None if greenlet.dead else greenlet

    @property
    def ended(self) -> bool:
        """Whether the greenlet that called fork has ended."""
        return self._raw() is None

    def exit(self, error: SystemExit) -> None:
        """A request has raised this; ends the process if it is the one whose handler called fork."""
        if self._raw() is _current():
            end_process(error)

    def throw(self, hub: Hub, error: BaseException) -> None:
        """Raises in it where it waits what would be raised in the main greenlet; ends the process if it has ended."""
        target = self._raw()
        if target is None or target is _current():
            end_process(error)
        elif hub.destroyed:
            target.waiter = None
            target.throw(error)
        else:
            hub.interrupt(target, error)


def end_process(error: BaseException) -> None:
    """Ends this process, without anything that belongs to the parent's main greenlet, as this error would."""
    code: Any = 1
    if isinstance(error, SystemExit):
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    elif isinstance(error, (LoopExit, HubDestroyed)):
        code = 0  # all is done
    else:
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # it is closed, or None
            continue
    os._exit((code or 0) & 0xFF)
