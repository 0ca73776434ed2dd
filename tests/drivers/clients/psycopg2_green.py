"""psycopg2 with the wait callback that patching sets, and its pool for threads.

The pool refuses a caller when it is empty, so a semaphore stands before it; and it keeps no more connections than it
opened at its start.
"""

import contextlib
import threading
from typing import Any

import psycopg2
from psycopg2.pool import ThreadedConnectionPool

from tests.drivers.clients.sql import POSTGRES, SqlClient, returned


class Client(SqlClient):
    dialect = POSTGRES

    def connect(self, database: str | None) -> Any:
        connection = psycopg2.connect(self.url, **({"dbname": database} if database else {}))
        connection.autocommit = True
        return connection

    def pool(self, size: int) -> Any:
        return Pool(self, size)

    @contextlib.contextmanager
    def transaction(self, connection: Any) -> Any:
        connection.autocommit = False
        with connection:
            yield connection
        connection.autocommit = True


class Pool:
    def __init__(self, client: Client, size: int) -> None:
        self.client = client
        self._free = threading.BoundedSemaphore(size)
        self._pool = ThreadedConnectionPool(size, size, client.url, dbname=client.database)

    @contextlib.contextmanager
    def connection(self) -> Any:
        with self._free, returned(self._take, self._pool.putconn, self._throw_away) as connection:
            yield connection

    def _take(self) -> Any:
        connection = self._pool.getconn()
        connection.autocommit = True
        return connection

    def _throw_away(self, connection: Any) -> None:
        self._pool.putconn(connection, close=True)

    def close(self) -> None:
        self._pool.closeall()
