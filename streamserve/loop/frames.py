"""What the frames of an ended greenlet held is let go where it ended: in its own greenlet, with its context variables.

The exception that ended a greenlet is kept with its handle, and its traceback keeps the frames: sockets would stay
open, and a generator that one of them was in the middle of would be finalized wherever the handle is dropped, where
`var.reset(token)` is a ValueError. The lines of the traceback stay.
"""

from __future__ import annotations

from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import TracebackType

__all__ = ["release_frames"]

_SUSPENDS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


def release_frames(error: BaseException) -> None:
    """Clears the local variables of the frames that an exception, and those it came from, passed through."""
    errors: list[BaseException | None] = [error]
    seen = set()
    while errors:
        found = errors.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        errors += (found.__context__, found.__cause__)
        _clear(found.__traceback__)


def _clear(trace: TracebackType | None) -> None:
    while trace is not None:
        frame = trace.tb_frame
        # One that has gone on since, to a later line, lives: clearing it would close the generator.
        if not frame.f_code.co_flags & _SUSPENDS or frame.f_lasti == trace.tb_lasti:
            with suppress(RuntimeError):  # it runs
                frame.clear()
        trace = trace.tb_next
