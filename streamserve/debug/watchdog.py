"""The watchdog: says which greenlet keeps a loop from its poll.

One native thread looks at the loops of this process a few times within the
limit. A loop that is still in the same job as before, without having polled in
between, blocks; when that has lasted for the limit, the stack of its native
thread is what blocks it. Nothing is traced and the loop itself does nothing for
it: the core stamps the end of each poll, `hub.budget` counts the jobs since, and
`hub.job` tells the requests of one poll apart, which are run as one job of the budget.
A look takes these numbers and no more: it reads nothing of what it watches, whose
objects would live longer for it. The stack and its variables are for a report alone.

A report must come while the loop is blocked, perhaps in the middle of logging.
So the thread takes no lock of Python's and no logger: it gives a text to a function
that writes. It is not one that could still wake a greenlet (native_threads.py).
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from time import monotonic
from types import FrameType

from streamserve.core import lib
from streamserve.debug.stacks import JOBS, format_lines, frames_of, job_of, lines_of, place_of
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import allocate_lock, start_new_thread, thread_serves, thread_works

LOOKS = 8
"""How often the thread looks within the limit."""

MOST_PLACES = 256
"""Places that are remembered as reported; the one that blocked least recently is forgotten first."""

SAY_AGAIN = 600.0
"""Seconds after which a place that blocks again is reported again, with how often it did."""

REMEDY = """\
  Remedy: let a native thread do it, streamserve.get_hub().threadpool.apply(function, args). Where it is a call that
  should have let others run (time.sleep, a socket), it was imported before it was patched: patch first."""

Report = Callable[[str], None]
_Moment = tuple[int, int, int]


def write_to_stderr(text: str) -> None:
    """The report of a library's watchdog: straight to the descriptor, past every lock."""
    os.write(2, f"streamserve: {text}\n".encode(errors="backslashreplace"))


class _Watched:
    """One loop, and in which job it was seen since when."""

    def __init__(self, hub: Hub, limit: float, report: Report) -> None:
        self.hub = weakref.ref(hub)
        self.thread_ident = hub.thread_ident
        self.limit = limit
        self.report = report
        self.polled = False  # before the first poll, `ss_loop_entered` is 0 too
        self.moment: _Moment | None = None
        self.since = 0.0
        self.told = False


class _Place:
    """How often a line blocked, and when that was last said."""

    __slots__ = ("count", "said", "since")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.said = now - 2 * SAY_AGAIN
        self.since = time.strftime("%Y-%m-%d %H:%M:%S")


class Watchdog:
    """Looks at loops from a native thread of its own; `start_watchdog` makes the one of a process.

    Args:
        clock: What gives the time in seconds, counted as the core counts it.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._watched: list[_Watched] = []
        self._places: OrderedDict[tuple[str, int], _Place] = OrderedDict()
        self._due = inf  # when the next look is to come
        self._change = allocate_lock()  # held to add and remove loops, and by the thread to end
        self._alarm = allocate_lock()  # the thread sleeps on it
        self._alarm.acquire()
        self._runs = False

    # ---- what is watched

    def watch(self, hub: Hub, limit: float, report: Report) -> None:
        """Reports from now on when this loop is blocked for `limit` seconds; replaces what was said before."""
        with self._change:
            self._watched = [one for one in self._watched if one.hub() is not hub]
            self._watched.append(_Watched(hub, limit, report))

    def forget(self, hub: Hub) -> None:
        """Watches this loop no longer."""
        with self._change:
            self._watched = [one for one in self._watched if one.hub() not in (hub, None)]
        self._wake()

    @property
    def runs(self) -> bool:
        """True while its thread lives."""
        return self._runs

    # ---- the thread

    def start(self) -> None:
        """Starts the thread, unless it runs; it ends when no loop is left."""
        with self._change:
            if not self._runs:
                begun = allocate_lock()
                begun.acquire()
                start_new_thread(self._run, (begun.release,))
                self._runs = True
                begun.acquire()  # afterwards nobody takes it for a thread that works
            else:
                self._wake()

    def stop(self) -> None:
        """Forgets all loops, so that the thread ends."""
        with self._change:
            self._watched = []
        self._wake()

    def _wake(self) -> None:
        if self._alarm.locked():
            try:
                self._alarm.release()
            except RuntimeError:  # another thread was faster
                return

    def _run(self, begun: Callable[[], None]) -> None:
        thread_serves()
        self._due = inf
        try:
            begun()
            while True:
                pause = self.check()
                with self._change:
                    if not self._watched:
                        self._runs = False
                        return
                self._alarm.acquire(True, pause)
        finally:
            thread_works()

    # ---- one look

    def check(self) -> float:
        """Looks at each loop once and reports what has been blocked for too long.

        Returns:
            Seconds until the next look.
        """
        pause = 3600.0
        for watched in self._watched:
            hub = watched.hub()
            if hub is None or hub.destroyed or hub.thread_ident != watched.thread_ident:
                with self._change:
                    self._watched = [one for one in self._watched if one is not watched]
                continue
            pause = min(pause, self._look(watched, hub))
        self._due = self._clock() + pause
        return pause

    def _look(self, watched: _Watched, hub: Hub) -> float:
        now = self._clock()
        cadence = watched.limit / LOOKS
        entered = lib.ss_loop_entered(hub.core)
        watched.polled = watched.polled or entered != 0
        if not entered and watched.polled:
            return cadence
        frame = sys._current_frames().get(hub.thread_ident)
        if not entered and frame is not None and frame.f_code is Hub._poll.__code__:
            return cadence
        moment = (entered, hub.budget, hub.job)
        if moment != watched.moment:
            # A call that holds the GIL keeps this thread from looking: what it finds then began before.
            late = now - self._due > watched.limit / 2
            watched.moment, watched.since, watched.told = moment, entered / 1e9 if late and entered else now, False
        left = watched.since + watched.limit - now
        if left > 0:
            return min(cadence, left)
        if not watched.told and lib.ss_loop_entered(hub.core) == entered:
            watched.told = True
            self._blocked(watched, now, frames_of(frame))
        return cadence

    def _blocked(self, watched: _Watched, now: float, frames: list[FrameType]) -> None:
        lines = lines_of(frames)
        who = job_of(frames) or "the main greenlet or a raw one"
        frames.clear()  # they hold what the application's variables hold
        if not lines:  # its native thread has ended
            return
        code, number = place_of(lines)
        where = (code.co_filename, number)
        place = self._places.pop(where, None) or _Place(now)
        self._places[where] = place
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)
        place.count += 1
        if now - place.said < SAY_AGAIN:
            return
        place.said = now
        often = f" ({place.count} times since {place.since})" if place.count > 1 else ""
        watched.report(
            f"the event loop is blocked, so far for {now - watched.since:.1f} s, by {who}"
            f" at {code.co_filename}:{number} in {code.co_name}{often}\n{format_lines(lines)}{REMEDY}"
        )


JOBS[Watchdog._run.__code__] = lambda local: "the watchdog"

_watchdog: Watchdog | None = None


def start_watchdog(seconds: float = 1.0, report: Report = write_to_stderr) -> None:
    """Reports whatever blocks the loop of this native thread, from now on.

    Each place in the code is reported once, and again after ten minutes if it still blocks then. In a child after a
    fork nothing is watched until this is called there.

    Args:
        seconds: How long the loop may be kept from its poll.
        report: Called with a text of several lines, in another native thread and while the loop is blocked: it must
            not wait for a lock that a greenlet may hold. A logger's handlers have such locks.

    Raises:
        ValueError: seconds is not above zero.

    Example:
        >>> streamserve.start_watchdog(0.5)
    """
    if not seconds > 0:
        raise ValueError(f"a loop cannot be reported as blocked after {seconds!r} seconds: give a number above 0")
    global _watchdog
    if _watchdog is None:
        _watchdog = Watchdog()
    _watchdog.watch(get_hub(), seconds, report)
    _watchdog.start()


def stop_watchdog() -> None:
    """Watches the loop of this native thread no longer."""
    if _watchdog is not None:
        _watchdog.forget(get_hub())


def _forget_all() -> None:
    """In a child after a fork, which has no thread of its own, and perhaps a lock that nobody will release."""
    global _watchdog
    _watchdog = None


def _at_exit() -> None:
    if _watchdog is not None:
        _watchdog.stop()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_at_exit)
