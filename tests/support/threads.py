"""Native threads with greenlets in them, for tests of what they share."""

import random
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from streamserve import joinall, sleep, spawn

PATIENCE = 60
"""Seconds after which a test gives up on something that should have happened."""

INTERRUPTED = 0.02
"""How often, of the places where it can be, disturbed work is interrupted."""


def in_thread(function: Callable[[], object]) -> None:
    """Runs the function in a native thread, and blocks this one, hub and all, until it has ended."""
    in_threads([function])


def in_threads(functions: list[Callable[[], object]]) -> None:
    """The same with several threads at once; raises the first error that one of them had."""
    threads, failures = begin(functions)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def begin(functions: list[Callable[[], object]]) -> tuple[list[threading.Thread], list[BaseException]]:
    """Starts a thread for each function; returns them, and the list that gets their errors."""
    failures: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    return threads, failures


def crew(count: int, work: Callable[[], object]) -> Callable[[], object]:
    """Returns a function that runs `count` greenlets, for a thread of its own; their errors are raised."""
    return lambda: joinall([spawn(work) for _ in range(count)], raise_error=True)


def disturbed(work: Callable[[], object], action: Callable[[], object] | None = None) -> Callable[[], object]:
    """Returns a function that does the same in a thread of its own, interrupted wherever CPython may interrupt it.

    That is at the start of Python functions and after calls of C functions. There, now and then, other threads get
    their turn, or `action` is called, as a finalizer or a signal handler would be.
    """
    chance = random.Random(7).random

    def disturb(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return"):
            number = chance()
            if number < INTERRUPTED:
                time.sleep(1e-6)
            elif action is not None and number > 1 - INTERRUPTED:
                action()

    def run() -> object:
        assert threading.current_thread() is not threading.main_thread(), "it would go on there"
        sys.setprofile(disturb)
        return work()

    return run


def until(condition: Callable[[], object]) -> None:
    """Lets other greenlets run until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        sleep(0.001)
