"""Cooperative `time.sleep`."""

from __future__ import annotations

import time as _time
from typing import Any, SupportsIndex

from streamserve.loop.joining import sleep as _sleep

__all__ = ["sleep"]
__target__ = "time"
__implements__ = ["sleep"]

_real_sleep = _time.sleep
_LONGEST = 9.3e9  # seconds; beyond, the real one refuses: nanoseconds do not fit into 63 bits


def __getattr__(name: str) -> Any:
    """All else is the standard module's."""
    return getattr(_time, name)


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Like `time.sleep`: lets other greenlets run for so many seconds; 0 lets those run that are ready.

    Raises:
        ValueError: seconds is negative, or not a number.
        TypeError: seconds is neither a float nor an integer.
        OverflowError: more than 292 years.
    """
    if not isinstance(seconds, (float, int)) and hasattr(seconds, "__index__"):
        seconds = seconds.__index__()
    if not isinstance(seconds, (float, int)) or not 0 <= seconds <= _LONGEST:
        _real_sleep(seconds)  # raises
        return
    _sleep(seconds)
