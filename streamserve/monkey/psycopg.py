"""psycopg 3 waits in C unless it is told to wait by Python's `select`.

It looks for gevent's patching by name; ours it is told by its own switch, `psycopg.waiting.wait`, which the environment
variable PSYCOPG_WAIT_FUNC sets too. What the user has chosen there stays.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from greenlet import GreenletExit

from streamserve.errors import ClientGone
from streamserve.loop.imports import after_import
from streamserve.loop.timeout import Timeout

__all__ = ["patch_psycopg"]


def patch_psycopg() -> None:
    """Lets the connections of psycopg 3 wait in the loop, now or when it is imported; `select` must be patched.

    An error while a query waits (a kill, a Timeout) leaves the connection in the middle of the query: close it.
    psycopg_pool does so with what it is given back. It is told what may end a wait in line for a connection, or it
    would give the next free one to who has gone: it expects Exception, and asyncio's CancelledError in its other half.
    """
    after_import("psycopg", _choose_wait)
    after_import("psycopg_pool.pool", _name_ends)


def _name_ends(pool: ModuleType) -> None:
    if getattr(pool, "CLIENT_EXCEPTIONS", None) is Exception:  # before 3.3 the name is not there
        pool.CLIENT_EXCEPTIONS = (Exception, ClientGone, GreenletExit, Timeout)  # type: ignore[attr-defined]


def _choose_wait(package: ModuleType) -> None:
    waiting: Any = importlib.import_module(f"{package.__name__}.waiting")
    if "PSYCOPG_WAIT_FUNC" not in os.environ:
        waiting.wait = getattr(waiting, "wait_poll", waiting.wait_selector)  # older ones have no wait_poll
