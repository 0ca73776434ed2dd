"""Signals of the process that serves, and of no other.

A child that its application forks, a worker of a `multiprocessing.Pool` for one, would have their functions, too:
`terminate()` would stop a server that does not run there, and the child would not end. So it has what was set before,
from its first moment on (loop/fork_mask.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamserve import signal_handler
from streamserve.loop.fork_mask import handlers

__all__ = ["on_signal"]


def on_signal(number: int, function: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """Calls the function in a new greenlet when the signal arrives in this process; returns what ends that."""
    handler = signal_handler(number, function, *args)
    handlers.append(handler)

    def cancel() -> None:
        handler.cancel()
        if handler in handlers:  # not in a child
            handlers.remove(handler)

    return cancel
