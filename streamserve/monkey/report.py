"""What patching could not mend is reported: each thing by its name, and once."""

from __future__ import annotations

import sys
import warnings

__all__ = ["MonkeyPatchWarning", "report"]

_reported: set[str] = set()


class MonkeyPatchWarning(RuntimeWarning):
    """Something that existed before patching still blocks the whole thread: patch earlier, or make it anew."""


def report(message: str) -> None:
    """Warns, unless the same was said before: in the log of a process that has one, which the command sees to."""
    if message in _reported:
        return
    _reported.add(message)
    logging = sys.modules.get("logging")  # who imports it after patching has it in the last finalizers: not before here
    log = logging.getLogger("streamserve") if logging is not None else None
    if log is not None and log.handlers:
        log.warning(message)
    else:
        warnings.warn(message, MonkeyPatchWarning, stacklevel=_outside())


def _outside() -> int:
    """Returns how far up the stack the code is that asked for patching."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("streamserve."):
        level, frame = level + 1, frame.f_back
    return level
