"""Cooperative `queue`: SimpleQueue alone is compiled and would block the thread.

`Queue`, `LifoQueue` and `PriorityQueue` stay the standard library's: they are Python code on `threading`'s locks, with
attributes that others use (`mutex`, `not_empty`, `all_tasks_done`, `unfinished_tasks`), and are cooperative as soon as
`threading` is.
"""

from __future__ import annotations

from streamserve.sync.queue import SimpleQueue

__target__ = "queue"
__implements__ = ["SimpleQueue"]
__all__ = ["SimpleQueue"]
