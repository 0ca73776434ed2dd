"""mysql-connector-python, its Python half, with its own pool.

The pool refuses a caller when it is empty, so a semaphore stands before it. It takes a connection back as it is: one
that was left in the middle of a query is disconnected first, and the pool connects it anew when it is next asked for.
"""

import contextlib
import threading
from typing import Any

import mysql.connector
from mysql.connector.pooling import CNX_POOL_MAXSIZE, MySQLConnectionPool

from tests.drivers.clients.mysql import MySqlClient, QueuePool
from tests.drivers.clients.sql import returned

OPTIONS = {"use_pure": True, "autocommit": True, "connection_timeout": 60}


class Client(MySqlClient):
    def connect(self, database: str | None) -> Any:
        return mysql.connector.connect(**OPTIONS, **self.options(database))

    def pool(self, size: int) -> Any:
        if size > CNX_POOL_MAXSIZE:
            return QueuePool(self, lambda: self.connect(self.database), size)
        return Pool(self, size)


class Pool:
    def __init__(self, client: Client, size: int) -> None:
        self.client = client
        self._free = threading.BoundedSemaphore(size)
        options = client.options(client.database)
        self._pool = MySQLConnectionPool(pool_size=size, **OPTIONS, **options)

    @contextlib.contextmanager
    def connection(self) -> Any:
        with self._free, returned(self._pool.get_connection, self._give_back, self._throw_away) as connection:
            yield connection

    def _give_back(self, connection: Any) -> None:
        connection.close()

    def _throw_away(self, connection: Any) -> None:
        connection.disconnect()
        with contextlib.suppress(mysql.connector.Error):  # it goes back to the pool, and cannot be reset
            connection.close()

    def close(self) -> None:
        self._pool._remove_connections()
