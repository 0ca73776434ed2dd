"""What the two drivers of MariaDB and MySQL share: how they begin, and a pool for a driver that has none."""

import contextlib
import queue
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.drivers.clients.sql import MARIADB, SqlClient, returned


class MySqlClient(SqlClient):
    dialect = MARIADB

    def options(self, database: str | None) -> dict[str, Any]:
        """The arguments of `connect` that all of these drivers take."""
        address = urlsplit(self.url)
        return {"host": address.hostname, "port": address.port, "user": address.username, "database": database}

    @contextlib.contextmanager
    def transaction(self, connection: Any) -> Any:
        self.query(connection, "START TRANSACTION")
        yield connection
        connection.commit()


class QueuePool:
    """Up to `size` connections, opened when they are needed: a queue holds the free ones and the room for others."""

    def __init__(self, client: MySqlClient, connect: Callable[[], Any], size: int) -> None:
        self.client = client
        self._connect = connect
        self._free: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    def connection(self) -> Any:
        return returned(self._take, self._free.put, self._throw_away)

    def _take(self) -> Any:
        connection = self._free.get(timeout=60)
        if connection is not None:
            return connection
        try:
            return self._connect()
        except BaseException:
            self._free.put(None)
            raise

    def _throw_away(self, connection: Any) -> None:
        self._free.put(None)
        with contextlib.suppress(Exception):  # it may have closed itself
            connection.close()

    def close(self) -> None:
        while not self._free.empty():
            connection = self._free.get()
            if connection is not None:
                connection.close()
