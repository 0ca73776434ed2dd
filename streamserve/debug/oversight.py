"""What the server tells of itself: what blocks its loop, and, when asked by SIGUSR1, what every greenlet does."""

import logging
import signal
from collections.abc import Callable
from types import FrameType

from streamserve.debug.stacks import format_greenlets
from streamserve.debug.watchdog import start_watchdog, stop_watchdog
from streamserve.logs.server_log import write_past_locks

__all__ = ["print_greenlets_on_signal", "watch_loop"]


def watch_loop(limit: float) -> Callable[[], None]:
    """Logs what keeps the loop of this thread from running for `limit` seconds, if that is not 0.

    Returns:
        What ends it.
    """
    if limit:
        start_watchdog(limit, _warn)
    return stop_watchdog


def _warn(text: str) -> None:
    if logging.getLogger("streamserve").level <= logging.WARNING:
        write_past_locks(logging.WARNING, text)


def print_greenlets_on_signal() -> Callable[[], None]:
    """Has SIGUSR1 write all greenlets with their stacks to standard error, whatever log_level is.

    The handler runs in the main thread at its next bytecode, on top of what runs there: a busy greenlet is shown where
    it is busy. The signal interrupts what waits in the kernel, which Python then begins again (PEP 475); only a call of
    C that computes, or that begins again by itself, delays it.

    Returns:
        What puts the former handler back.
    """
    before = signal.signal(signal.SIGUSR1, _print_greenlets)

    def restore() -> None:
        if before is not None and signal.getsignal(signal.SIGUSR1) is _print_greenlets:
            signal.signal(signal.SIGUSR1, before)

    return restore


def _print_greenlets(signum: int, frame: FrameType | None) -> None:
    write_past_locks(logging.INFO, f"SIGUSR1: {format_greenlets(frame)}".rstrip())
