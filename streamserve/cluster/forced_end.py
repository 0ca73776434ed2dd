"""The end of a process that cannot stop: its loop is blocked, so no greenlet hears of the signals that ask it to.

A native thread counts signals as they arrive (loop/signals.py), also while the main
thread is in a call that never returns. After the second one it asks the loop whether it
still runs. If it does, the server stops by itself; if not, the thread says what blocks
it, and ends the process. It does the same once the time for a graceful stop is over.

A call of C that never gives the GIL away keeps this thread from running, too. For that there is
a thread of the core (guard.c), which waits longer than this one would need.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NoReturn

from streamserve.debug.stacks import format_lines, frames_of, job_of, lines_of, place_of
from streamserve.logs.server_log import write_past_locks
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import allocate_lock, start_new_thread, thread_serves, thread_works
from streamserve.loop.signals import LOOK, SignalCounter

__all__ = ["ForcedEnd"]

TICK = 0.5
"""How often this thread shows the core that it runs, after the first signal."""

GUARD_SECONDS = 2.0
"""How much longer the core waits for what this thread would do."""

STACKS = signal.SIGRTMAX
"""The signal by which the core has faulthandler show the stacks, where the program does not use it."""

ANSWER_SECONDS = 1.0
"""How long the loop may take to say that it runs."""

WRITE_SECONDS = 1.0
"""How long may be spent on what is to be written."""


def _show_stacks() -> bool:
    """Has faulthandler show all stacks at the signal; False where standard error is no file."""
    try:
        faulthandler.register(STACKS, file=2, all_threads=True)
    except (OSError, ValueError, RuntimeError):
        return False
    return True


class ForcedEnd:
    """Ends the process when a second signal finds the loop blocked, or the time of a graceful stop is over.

    Args:
        numbers: The signals that ask the server to stop.
        timeout: Seconds that a graceful stop may take.
        flush: Called before the end, in a thread that is not waited for long.
    """

    def __init__(self, numbers: Iterable[int], timeout: float, flush: Iterable[Callable[[], object]]) -> None:
        self._hub: Hub = get_hub()
        self._numbers = tuple(numbers)
        self._timeout = timeout
        self._flush = tuple(flush)
        self._signals = SignalCounter(self._numbers)
        self._shows_stacks = signal.getsignal(STACKS) is signal.SIG_DFL and _show_stacks()
        patience = ANSWER_SECONDS + WRITE_SECONDS + GUARD_SECONDS
        self._signals.guard(patience, timeout + patience, STACKS if self._shows_stacks else 0)
        self._closed = False
        self._gone = allocate_lock()
        self._gone.acquire()
        start_new_thread(self._run, ())

    def close(self) -> None:
        """Watches no longer: the server has stopped."""
        self._closed = True
        self._signals.wake()
        self._gone.acquire()
        self._signals.close()
        if self._shows_stacks:
            faulthandler.unregister(STACKS)

    # ---- the thread

    def _run(self) -> None:
        thread_serves()
        try:
            self._watch()
        finally:
            thread_works()
            self._gone.release()

    def _watch(self) -> None:
        arrived: tuple[int, ...] = ()
        deadline: float | None = None
        while not self._closed:
            self._signals.wait(
                min(max(deadline - monotonic(), 0.0), TICK) if deadline is not None else TICK if arrived else None
            )
            before, arrived = arrived, self._signals.arrived()
            if len(arrived) > len(before):
                if not before:
                    deadline = monotonic() + self._timeout + ANSWER_SECONDS
                if not self._loop_runs():
                    self._found_blocked(arrived)
            elif deadline is not None and monotonic() >= deadline:
                deadline = None
                if not self._loop_runs():
                    name = signal.Signals(arrived[-1]).name
                    self._end(f"{name}: the {self._timeout:g} s for running requests are over", arrived[-1])

    def _loop_runs(self) -> bool:
        answer = allocate_lock()
        answer.acquire()
        self._hub.run_callback_threadsafe(answer.release)
        end = monotonic() + ANSWER_SECONDS
        while not self._closed and monotonic() < end:
            if answer.acquire(True, LOOK):
                return True
        return self._closed

    def _found_blocked(self, arrived: tuple[int, ...]) -> None:
        name = signal.Signals(arrived[-1]).name
        if len(arrived) > 1:
            self._end(f"{name} came again", arrived[-1])
        self._aside(self._warn, name)

    def _aside(self, function: Callable[[str], object], text: str) -> None:
        """Calls it in another thread and waits a little: standard error may be a pipe that nobody reads."""
        done = allocate_lock()
        done.acquire()

        def call() -> None:
            thread_serves()
            try:
                function(text)
            finally:
                thread_works()
                done.release()

        start_new_thread(call, ())
        done.acquire(True, WRITE_SECONDS)

    def _warn(self, name: str) -> None:
        place, _ = self._where()
        write_past_locks(
            logging.WARNING,
            f"{name}: the event loop is blocked by {place}; the server stops when that goes on,"
            f" at the latest in {self._timeout:g} s, and at once by a second signal",
        )

    def _where(self) -> tuple[str, str]:
        """What blocks the loop, in a line and as a stack."""
        frames = frames_of(sys._current_frames().get(self._hub.thread_ident))
        job = job_of(frames)
        lines = lines_of(frames)
        code, number = place_of(lines)
        who = "the main greenlet or a raw one" if job is None else job
        return f"{who} at {code.co_filename}:{number} in {code.co_name}", format_lines(lines).rstrip()

    def _end(self, why: str, signum: int) -> NoReturn:
        """Says what blocks the loop, and ends the process with the code that a shell gives to this signal."""
        try:
            self._aside(self._tell, why)
        finally:
            os._exit(128 + signum)

    def _tell(self, why: str) -> None:
        place, stack = self._where()
        write_past_locks(logging.CRITICAL, f"{why}, and the event loop is blocked by {place}: ending at once\n{stack}")
        for flush in self._flush:
            try:
                flush()
            except Exception:  # what is closed, or full: there is nobody left to tell
                continue
