"""Log lines that a flood of bad clients must not turn into a flood of lines."""

from __future__ import annotations

import logging
from time import monotonic

log = logging.getLogger("streamserve.server")

PAUSE = 1.0
"""Seconds between two lines."""


class Complaints:
    """Counts what goes wrong, and logs it: one line a second at most.

    Attributes:
        count: how often it went wrong.
    """

    __slots__ = ("_logged", "_next", "count")

    def __init__(self) -> None:
        self.count = 0
        self._logged = 0
        self._next = 0.0

    def note(self, text: str) -> None:
        """Counts one; logs it unless another was logged a moment ago."""
        self.count += 1
        now = monotonic()
        if now < self._next:
            return
        unsaid = self.count - self._logged - 1
        self._next = now + PAUSE
        self._logged = self.count
        log.warning("%s%s", text, f" (and {unsaid} more since the last such line)" if unsaid else "")
