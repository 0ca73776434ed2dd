"""psycopg 3 with its pool. `PSYCOPG_IMPL` chooses between its C and its Python half."""

import contextlib
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from tests.drivers.clients.sql import POSTGRES, SqlClient


class Client(SqlClient):
    dialect = POSTGRES

    def connect(self, database: str | None) -> Any:
        return psycopg.connect(self.url, autocommit=True, **({"dbname": database} if database else {}))

    def pool(self, size: int) -> Any:
        options = {"dbname": self.database, "autocommit": True}
        pool = ConnectionPool(self.url, kwargs=options, min_size=0, max_size=size, timeout=60, open=True)
        pool.client = self
        return pool

    @contextlib.contextmanager
    def transaction(self, connection: Any) -> Any:
        with connection.transaction():
            yield connection
