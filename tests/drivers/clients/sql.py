"""What the clients of SQL databases share: how a pool is used, and how a test looks into the server.

A gate is a lock in the server, held by the gatekeeper, a connection of its own. Whoever passes the gate asks for the
lock and gives it back, and so stands in the server until the gate is opened.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple, Protocol


class Dialect(NamedTuple):
    """The words of one kind of server; each `%s` is a gate's number, a database's name or seconds."""

    identity: str
    nap: str
    pass_gate: str
    close_gate: str
    open_gate: str
    waiting: str
    connections: str  # of a database
    opened: str  # how many connections the server has ever seen, of a database where it says so


POSTGRES = Dialect(
    identity="SELECT pg_backend_pid()",
    nap="SELECT pg_sleep(%s)",
    pass_gate="SELECT pg_advisory_xact_lock_shared(%s)",
    close_gate="SELECT pg_advisory_lock(%s)",
    open_gate="SELECT pg_advisory_unlock(%s)",
    waiting="SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s",
    connections="SELECT pid FROM pg_stat_activity WHERE datname = %s",
    opened="SELECT sessions FROM pg_stat_database WHERE datname = %s",
)

MARIADB = Dialect(
    identity="SELECT CONNECTION_ID()",
    nap="SELECT SLEEP(%s)",
    pass_gate="SELECT GET_LOCK(CONCAT('gate ', %s), 60), RELEASE_ALL_LOCKS()",
    close_gate="SELECT GET_LOCK(CONCAT('gate ', %s), 0)",
    open_gate="SELECT RELEASE_LOCK(CONCAT('gate ', %s))",
    waiting="SELECT COUNT(*) FROM information_schema.processlist"
    " WHERE state = 'User lock' AND info LIKE CONCAT('%%gate '', ', %s, ')%%')",
    connections="SELECT id FROM information_schema.processlist WHERE db = %s",
    opened="SELECT variable_value FROM information_schema.global_status"
    " WHERE variable_name = 'Connections' AND %s <> ''",
)


class Connection(Protocol):
    """What every driver's connection has."""

    def cursor(self) -> Any: ...
    def close(self) -> None: ...


class SqlClient:
    """A database of its own in the server, and the questions of the promises.

    A subclass has the dialect, and says how its driver connects, pools and begins.
    """

    dialect: Dialect

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = f"promises_{uuid.uuid4().hex}"
        self._gates = count(1)
        self._admin = self.connect(None)
        self.query(self._admin, f"CREATE DATABASE {self.database}")
        self._gatekeeper = self.connect(self.database)
        self._gatekeeper_identity = self.identity(self._gatekeeper)
        self.query(self._gatekeeper, "CREATE TABLE written (number integer)")
        self._opened_before = self._count_opened()

    # ---- what a subclass says

    def connect(self, database: str | None) -> Any:
        """A connection in autocommit."""
        raise NotImplementedError

    def pool(self, size: int) -> Any:
        """A pool: `connection()`, a context manager, and `close()`; `client` is this object."""
        raise NotImplementedError

    def transaction(self, connection: Any) -> contextlib.AbstractContextManager[Any]:
        """A transaction, committed at the end; gives what stands for the connection meanwhile."""
        raise NotImplementedError

    # ---- what is done on a connection

    def query(self, connection: Connection, words: str, *values: Any) -> list[Any]:
        """The first column of the result."""
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(words, values)
            return [row[0] for row in cursor.fetchall()] if cursor.description else []

    def identity(self, connection: Connection) -> int:
        return int(self.query(connection, self.dialect.identity)[0])

    def nap(self, connection: Connection, seconds: float) -> None:
        self.query(connection, self.dialect.nap, seconds)

    def pass_gate(self, connection: Connection, gate: int) -> None:
        self.query(connection, self.dialect.pass_gate, gate)

    def add_row(self, connection: Connection, number: int) -> None:
        self.query(connection, "INSERT INTO written VALUES (%s)", number)

    # ---- what the gatekeeper does

    def close_gate(self) -> int:
        gate = next(self._gates)
        self.query(self._gatekeeper, self.dialect.close_gate, gate)
        return gate

    def open_gate(self, gate: int) -> None:
        self.query(self._gatekeeper, self.dialect.open_gate, gate)

    def waiting(self, gate: int) -> int:
        """How many queries stand before the gate, by the server's word."""
        return int(self.query(self._gatekeeper, self.dialect.waiting, gate)[0])

    def connections(self) -> set[int]:
        """The connections to the database, but for the gatekeeper's, by the server's word."""
        found = {int(number) for number in self.query(self._admin, self.dialect.connections, self.database)}
        return found - {self._gatekeeper_identity}

    def count_rows(self) -> int:
        return int(self.query(self._gatekeeper, "SELECT COUNT(*) FROM written")[0])

    def opened(self) -> int:
        """How many connections pools have ever opened; asked once, when all of them are closed."""
        self._gatekeeper.close()
        while self.query(self._admin, self.dialect.connections, self.database):
            time.sleep(0.01)  # PostgreSQL counts a connection at the latest before it disappears
        return self._count_opened() - self._opened_before

    def _count_opened(self) -> int:
        return int(self.query(self._admin, self.dialect.opened, self.database)[0])


@contextlib.contextmanager
def returned(take: Any, give_back: Any, throw_away: Any) -> Iterator[Any]:
    """A connection of a pool that leaves what becomes of broken ones to its user: a kill is BaseException."""
    connection = take()
    try:
        yield connection
    except BaseException:
        throw_away(connection)
        raise
    give_back(connection)
