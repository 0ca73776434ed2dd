"""What the server tells of itself: what blocks its loop, and, when asked by SIGUSR1, what every greenlet does."""

import logging
import signal
from collections.abc import Callable
from types import FrameType

from streamserve.debug.stacks import format_greenlets
from streamserve.debug.watchdog import start_watchdog, stop_watchdog

__all__ = ["print_greenlets_on_signal", "watch_loop"]


Write = Callable[[int, str], None]
"""Writes a text at a level of `logging`; it waits for no lock that a greenlet may hold."""


def watch_loop(limit: float, write: Write) -> Callable[[], None]:
    """Writes what keeps the loop of this thread from running for `limit` seconds, if that is not 0.

    Returns:
        What ends it.
    """

    def warn(text: str) -> None:
        if logging.getLogger("streamserve").level <= logging.WARNING:
            write(logging.WARNING, text)

    if limit:
        start_watchdog(limit, warn)
    return stop_watchdog


def print_greenlets_on_signal(write: Write) -> Callable[[], None]:
    """Has SIGUSR1 write all greenlets with their stacks to standard error, whatever log_level is.

    The handler runs in the main thread at its next bytecode, on top of what runs there: a busy greenlet is shown where
    it is busy. The signal interrupts what waits in the kernel, which Python then begins again (PEP 475); only a call of
    C that computes, or that begins again by itself, delays it.

    Returns:
        What puts the former handler back.
    """

    def print_greenlets(signum: int, frame: FrameType | None) -> None:
        write(logging.INFO, f"SIGUSR1: {format_greenlets(frame)}".rstrip())

    def restore() -> None:
        if before is not None and signal.getsignal(signal.SIGUSR1) is print_greenlets:
            signal.signal(signal.SIGUSR1, before)

    before = signal.signal(signal.SIGUSR1, print_greenlets)
    return restore
