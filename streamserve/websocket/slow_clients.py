"""How many clients were too slow for broadcasts."""

from __future__ import annotations

from typing import NamedTuple

from streamserve.core import ffi, lib
from streamserve.loop.hubs import get_hub

__all__ = ["SlowClients", "slow_clients"]


class SlowClients(NamedTuple):
    """Recipients of broadcasts for whom more than `websocket_queue` bytes waited, since the loop began.

    Attributes:
        skipped: that were left out of one, as `websocket_slow = skip` says; each time counts.
        closed: that were ended with 1013.
    """

    skipped: int
    closed: int


def slow_clients() -> SlowClients:
    """Counts those of this thread's loop; every worker process has its own."""
    counts = ffi.new("int64_t[]", lib.SS_COUNT_KINDS)
    lib.ss_counts(get_hub().core, counts)
    return SlowClients(counts[lib.SS_COUNT_SKIPPED], counts[lib.SS_COUNT_OVERLOADED])
