"""Stacks of greenlets as text: what each does, or where it waits.

Nothing is recorded while a program runs: greenlets are found by asking the
garbage collector, and what they are for is read from the local variables of the
functions at the bottom of their stacks (`JOBS`). All of it may run in a signal's
handler, at any bytecode, and in another native thread than the greenlet's.
So nothing here waits, takes a lock, or calls code of the application, not even a
`__repr__` or, by `isinstance`, a `__class__`. Local variables are read for a report
alone, never for a mere look: on CPython 3.11 and 3.12 that leaves a mark (`_locals_of`).
"""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType
from typing import Any

from greenlet import getcurrent
from greenlet import greenlet as RawGreenlet

from streamserve.loop import greenlet as _greenlet
from streamserve.loop import joining as _waiting
from streamserve.loop import waiter as _waiter
from streamserve.loop.hub import Hub
from streamserve.loop.native_threads import get_ident

MOST_FRAMES = 200
"""Frames of one stack that are looked at, from the innermost outwards."""

MOST_LINES = 40
"""Frames of one stack that are printed."""

MOST_NAMES = 5
"""Greenlets of a group that are named; the rest is a number."""

MOST_CHARACTERS = 200_000
"""Length at which the groups with the fewest greenlets are left out."""

Line = tuple[CodeType, int]
"""Of one frame: its function, and the number of the line."""

JOBS: dict[CodeType, Callable[[Mapping[str, Any]], str]] = {}
"""Functions that run one job: from their local variables, what people call it. gateway/endpoint.py adds its own."""

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LOOP = os.path.dirname(_waiter.__file__) + os.sep
_PARKING = (_waiter.__file__, _LOOP + "running_loop.py")
_LIBRARIES = tuple({path + os.sep for path in map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))})
_STANDARD = (os.path.dirname(os.__file__) + os.sep, "<frozen ")


# ---- one stack


def frames_of(frame: FrameType | None) -> list[FrameType]:
    """The frames of a stack, innermost first, `MOST_FRAMES` at most."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < MOST_FRAMES:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _relevant(frames: list[FrameType]) -> list[FrameType]:
    """The frames without those by which this package starts and parks greenlets, which tell nothing."""
    first, last = 0, len(frames)
    while last and frames[last - 1].f_code.co_filename.startswith(_LOOP):
        last -= 1
    while first < last and frames[first].f_code.co_filename in _PARKING:
        first += 1
    return frames[first:last] or frames


def lines_of(frames: list[FrameType]) -> list[Line]:
    """File and line of each frame that tells something, outermost first."""
    return [(frame.f_code, frame.f_lineno) for frame in reversed(_relevant(frames))]


def place_of(lines: list[Line]) -> Line:
    """The innermost line of the application: not of the standard library, of installed packages or of this one.

    An application that is installed itself has none such: then the innermost line outside the standard library.
    """
    for skipped in ((_PACKAGE, *_LIBRARIES, *_STANDARD), (_PACKAGE, *_STANDARD)):
        for line in reversed(lines):
            if not line[0].co_filename.startswith(skipped):
                return line
    return lines[-1]


def format_lines(lines: list[Line]) -> str:
    """The lines as a traceback shows them; the middle of a long stack is left out."""
    left_out = len(lines) - MOST_LINES
    if left_out > 0:
        head, tail = lines[: MOST_LINES // 4], lines[MOST_LINES // 4 - MOST_LINES :]
        return f"{format_lines(head)}  ... {left_out} more ...\n{format_lines(tail)}"
    summaries = [traceback.FrameSummary(code.co_filename, number, code.co_name) for code, number in lines]
    return "".join(traceback.StackSummary.from_list(summaries).format())


# ---- what a greenlet is for


def _locals_of(frame: FrameType) -> dict[str, Any]:
    """The local variables of a function's frame, of which nothing is left in the frame.

    CPython up to 3.12 gives a dict that it keeps in the frame until the function ends. Read within an except clause,
    that dict has the exception, whose traceback has the frame: after the function's end a cycle, with all that the
    frames of the traceback hold. A debugger that follows the frame writes the dict back, so there it stays.
    """
    read = frame.f_locals
    found = dict(read)
    if type(read) is dict and frame.f_code.co_flags & CO_OPTIMIZED and frame.f_trace is None:
        read.clear()
    return found


def job_of(frames: list[FrameType]) -> str | None:
    """What the greenlet of these frames does, for a report: the innermost function in `JOBS` tells; None: none does."""
    for frame in frames:
        describe = JOBS.get(frame.f_code)
        if describe is not None:
            try:
                return describe(_locals_of(frame))
            except Exception:  # its first line has not run yet
                continue
    return None


def name_of(greenlet: Any) -> str:
    """What people call a greenlet: the name it was given or its number, and its function."""
    kind = type(greenlet)
    if issubclass(kind, _greenlet.Greenlet):
        return f"{greenlet.name} ({_function_name(greenlet._run)})"
    if issubclass(kind, Hub):
        return f"hub of thread {greenlet.thread_ident}"
    if greenlet.parent is None:
        return "main greenlet"
    if kind is _waiter.Runner:
        return "runner" if greenlet.task is None else name_of(greenlet.task)
    return f"{kind.__name__} at {id(greenlet):#x}"


def _function_name(function: Any) -> str:
    while type(function).__name__ == "partial":
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if type(name) is str else type(function).__name__


JOBS[_greenlet._begin.__code__] = lambda local: name_of(local["greenlet"])
JOBS[_waiting._run_raw.__code__] = lambda local: f"raw greenlet ({_function_name(local['function'])})"
JOBS[Hub.run.__code__] = lambda local: name_of(local["self"])


# ---- all of them


class _Group:
    """Greenlets that wait in the same lines."""

    __slots__ = ("count", "frames", "names")

    def __init__(self, frames: list[FrameType]) -> None:
        self.frames = frames
        self.count = 0
        self.names: list[str] = []

    def add(self, greenlet: Any, frames: list[FrameType]) -> None:
        self.count += 1
        if len(self.names) < MOST_NAMES:
            job = job_of(frames)
            self.names.append(job if job is not None else name_of(greenlet))

    def __str__(self) -> str:
        more = f" and {self.count - len(self.names):,} more" if self.count > len(self.names) else ""
        who = "1 greenlet waits" if self.count == 1 else f"{self.count:,} greenlets wait"
        return f"{who} here: {', '.join(self.names)}{more}\n{format_lines(lines_of(self.frames))}"


class _Census:
    """All greenlets of this process, counted and grouped."""

    def __init__(self) -> None:
        self.total = self.idle = self.unstarted = 0
        self.hubs: list[Hub] = []
        self.groups: dict[tuple[int, ...], _Group] = {}
        found = _greenlets()
        self.hubs = [greenlet for greenlet in found if issubclass(type(greenlet), Hub) and not greenlet.destroyed]
        idle = {id(runner) for hub in self.hubs for runner in hub.idle_runners}
        for greenlet in found:
            self._add(greenlet, idle)

    def _add(self, greenlet: Any, idle: set[int]) -> None:
        if greenlet.dead:
            return
        if id(greenlet) in idle:
            self.idle += 1
            return
        self.total += 1
        frame = greenlet.gr_frame
        if frame is None:  # it runs now, in this native thread or another, or has not begun
            self.unstarted += not greenlet
            return
        frames = frames_of(frame)
        key = tuple([number for frame in _relevant(frames) for number in (id(frame.f_code), frame.f_lasti)])
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = _Group(frames)
        group.add(greenlet, frames)

    def __str__(self) -> str:
        ready = sum(len(hub.ready) for hub in self.hubs)
        return (
            f"{self.total:,} greenlets, {ready:,} entries ready to run, {self.unstarted:,} not begun,"
            f" {self.idle:,} idle runners"
        )


def _greenlets() -> list[Any]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), RawGreenlet)]


def _running(current: FrameType | None) -> Iterator[str]:
    """What runs in each native thread, this one first."""
    here = get_ident()
    stacks = sys._current_frames()
    stacks[here] = current if current is not None else sys._getframe()
    names = {ident: thread.name for ident, thread in list(threading._active.items())}  # type: ignore[attr-defined]
    for ident in sorted(stacks, key=lambda ident: ident != here):
        frames = frames_of(stacks[ident])
        job = job_of(frames)
        who = job if job is not None else name_of(getcurrent()) if ident == here else ""
        thread = f"{names[ident]!r} ({ident})" if ident in names else str(ident)
        yield f"thread {thread} runs {who}".removesuffix(" ") + f"\n{format_lines(lines_of(frames))}"


def format_greenlets(current: FrameType | None = None) -> str:
    """All greenlets of this process with their stacks: those that run, then those that wait, grouped by where.

    Identical stacks are shown once, with the number of greenlets and some of their names; runners that wait for
    work, as a number. The length is bounded: groups of few greenlets are left out where there are too many.

    Args:
        current: The frame to show as what runs in this native thread; None: the caller's.
    """
    if current is None:
        current = sys._getframe(1)
    census = _Census()
    parts = [f"process {os.getpid()}: {census}\n", *_running(current)]
    length = sum(map(len, parts))
    groups = sorted(census.groups.values(), key=lambda group: -group.count)
    for shown, group in enumerate(groups):
        if length > MOST_CHARACTERS:
            rest = sum(group.count for group in groups[shown:])
            parts.append(f"{rest:,} greenlets in {len(groups) - shown:,} other places are left out\n")
            break
        parts.append(str(group))
        length += len(parts[-1])
    return "\n".join(parts)
