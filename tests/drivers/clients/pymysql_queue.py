"""PyMySQL, which has no pool, with one made of a queue."""

from typing import Any

import pymysql

from tests.drivers.clients.mysql import MySqlClient, QueuePool


class Client(MySqlClient):
    def connect(self, database: str | None) -> Any:
        return pymysql.connect(autocommit=True, connect_timeout=60, **self.options(database))

    def pool(self, size: int) -> Any:
        return QueuePool(self, lambda: self.connect(self.database), size)
