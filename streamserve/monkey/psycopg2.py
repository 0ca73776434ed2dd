"""psycopg2 waits inside libpq unless it is given a function that waits for it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from streamserve.loop.imports import after_import
from streamserve.loop.watcher import wait_read, wait_write

__all__ = ["patch_psycopg2"]


def patch_psycopg2() -> None:
    """Lets psycopg2's connections wait in the loop, now or when it is imported.

    An error while a query waits (a kill, a Timeout) makes psycopg2 close the connection.
    """
    after_import("psycopg2", _set_wait_callback)


def _set_wait_callback(package: ModuleType) -> None:
    extensions: Any = importlib.import_module(f"{package.__name__}.extensions")
    error: Any = package.OperationalError

    def wait(connection: Any) -> None:
        while True:
            state = connection.poll()
            if state == extensions.POLL_OK:
                return
            if state == extensions.POLL_READ:
                wait_read(connection.fileno())
            elif state == extensions.POLL_WRITE:
                wait_write(connection.fileno())
            else:
                raise error(f"psycopg2's connection.poll() returned {state!r}, which is no state to wait in")

    extensions.set_wait_callback(wait)
