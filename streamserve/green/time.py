"""Cooperative `time.sleep`."""

from __future__ import annotations

from typing import SupportsIndex

from streamserve.loop.waiting import sleep as _sleep

__all__ = ["sleep"]
__target__ = "time"
__implements__ = ["sleep"]

LONGEST = 9223372036.0
"""Seconds. `time.sleep` counts nanoseconds in 63 bits."""


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Like `time.sleep`: lets other greenlets run for so many seconds; 0 lets each of those run that could.

    Raises:
        ValueError: seconds is negative, or not a number.
        TypeError: seconds is neither a float nor an integer.
        OverflowError: more than 292 years.
    """
    if not isinstance(seconds, (float, int)):
        seconds = _as_integer(seconds)
    if not 0 <= seconds <= LONGEST:
        if seconds != seconds:
            raise ValueError("Invalid value NaN (not a number)")
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        raise OverflowError("timestamp too large to convert to C PyTime_t")
    _sleep(seconds)


def _as_integer(seconds: SupportsIndex) -> int:
    try:
        return seconds.__index__()
    except AttributeError:
        raise TypeError(f"{type(seconds).__name__!r} object cannot be interpreted as an integer") from None
