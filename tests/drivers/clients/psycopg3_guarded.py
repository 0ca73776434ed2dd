"""psycopg 3 with a semaphore before its pool.

Before its version 3.3 psycopg_pool hands the next free connection to a caller that was killed in line, since it expects
Exception there and a kill is none: the connection is lost. Before a semaphore nobody is in the pool's own line.
docs/drivers.md says so.
"""

import contextlib
import threading
from typing import Any

from tests.drivers.clients import psycopg3


class Client(psycopg3.Client):
    def pool(self, size: int) -> Any:
        return GuardedPool(super().pool(size), size)


class GuardedPool:
    def __init__(self, pool: Any, size: int) -> None:
        self.client = pool.client
        self.close = pool.close
        self._pool = pool
        self._free = threading.BoundedSemaphore(size)

    @contextlib.contextmanager
    def connection(self) -> Any:
        with self._free, self._pool.connection() as connection:
            yield connection
