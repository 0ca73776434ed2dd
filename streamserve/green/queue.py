"""Cooperative `queue`: SimpleQueue alone is compiled and would block the thread.

`Queue`, `LifoQueue` and `PriorityQueue` stay the standard library's: they are Python code on `threading`'s locks, with
attributes that others use (`mutex`, `not_empty`, `all_tasks_done`, `unfinished_tasks`), and are cooperative as soon as
`threading` is.
"""

from __future__ import annotations

from streamserve.sync.queue import SimpleQueue as _SimpleQueue

__all__ = ["SimpleQueue"]
__target__ = "queue"
__implements__ = ["SimpleQueue"]


class SimpleQueue(_SimpleQueue):
    """`queue.SimpleQueue`: without a limit, and usable in finalizers and signal handlers."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
