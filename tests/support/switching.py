"""Threads that take turns in the middle of what they do: a race of a few instructions shows within seconds."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

WAITS = (0.0, 0.0, 0.0, 1e-5, 1e-4)
"""Seconds; the first only let another thread go on."""


@contextmanager
def switching(parts: tuple[str, ...], share: float, seed: int = 1) -> Iterator[None]:
    """Has threads that start meanwhile give way, at a share of the instructions of files with such parts of a path.

    Beyond `threads.disturbed` these are whole threads of a server, and loops, too, in which nothing is called.
    """
    chance = random.Random(seed)

    def instruction(frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        if chance.random() < share:
            time.sleep(chance.choice(WAITS))
        return instruction

    def call(frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not any(part in frame.f_code.co_filename for part in parts):
            return None
        frame.f_trace_opcodes = True
        return instruction

    before = threading.gettrace()
    threading.settrace(call)
    try:
        yield
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
