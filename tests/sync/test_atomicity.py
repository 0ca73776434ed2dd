"""What sync/ relies on instead of locks: lines between which CPython never interrupts (sync/line.py)."""

import dis
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from streamserve.sync.event import Event
from streamserve.sync.lock import BoundedSemaphore, Lock, RLock, Semaphore
from streamserve.sync.turns import Turns

TAKING = ("if self.counter > 0:", "self.counter -= 1")
GIVING = ("if self._waiters:", "self.counter += 1")

STRAIGHT = [
    (Semaphore.acquire, *TAKING),
    (Lock.acquire, *TAKING),
    (RLock.acquire, "if self.counter > 0:", "self.counter -= 1"),
    (Turns._serve, "if self.counter <= 0 or not self._waiters:", "self.counter -= 1"),
    (Turns._hand_over, "if not waiters:", "self.counter += 1"),
    (Semaphore.release, *GIVING),
    (BoundedSemaphore.release, "if self.counter >= self._initial_value:", GIVING[1]),
    (Lock.release, *GIVING),
    (RLock.release, *GIVING),
    (Event.set, "state = self._state", "self._state = state"),
    (Event.clear, "state = self._state", "self._state = state + 1"),
]
INTERRUPTIBLE = (
    "CALL",
    "PRECALL",
    "JUMP_BACKWARD",
    "POP_JUMP_BACKWARD",
    "RESUME",
    "SEND",
    "YIELD",
    "BINARY_SUBSCR",
    "FOR_ITER",
)


@pytest.mark.parametrize(
    ("function", "first", "last"), STRAIGHT, ids=lambda part: getattr(part, "__qualname__", None) or "x"
)
def test_no_call_stands_between_a_test_and_its_store(function: Callable[..., Any], first: str, last: str) -> None:
    lines, start = inspect.getsourcelines(function)
    texts = [line.strip() for line in lines]
    begin = texts.index(first)
    end = texts.index(last, begin)
    # What a branch that leaves does is of no matter: raising, returning, handing over.
    leaving = {
        start + number
        for number in range(begin, end)
        if texts[number].startswith(("raise ", "return ", "self._hand_over()"))
    }
    inside = set(range(start + begin, start + end + 1)) - leaving
    line = start
    for instruction in dis.get_instructions(function):
        line = getattr(instruction, "line_number", None) or instruction.starts_line or line
        if line in inside:
            assert not instruction.opname.startswith(INTERRUPTIBLE), f"{texts[line - start]}: {instruction.opname}"
