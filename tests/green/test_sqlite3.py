"""sqlite3: a greenlet that finds the database locked waits as a thread would, and is answered what that is answered.

Each case runs with greenlets and our sqlite3, and with native threads and the standard one: both must end alike.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import streamserve
from streamserve.green import sqlite3 as green
from streamserve.sync.event import Event

Work = Callable[[Any], Any]


class Greenlets:
    """Two greenlets of one thread: while SQLite waits in C, the other could not run."""

    sqlite: Any = green
    event = Event
    sleep = staticmethod(streamserve.sleep)

    @staticmethod
    def run(functions: list[Callable[[], Any]]) -> list[Any]:
        greenlets = [streamserve.spawn(function) for function in functions]
        return [greenlet.get() for greenlet in greenlets]


class Threads:
    """Two native threads, with the standard library's sqlite3."""

    sqlite: Any = sqlite3
    event = threading.Event
    sleep = staticmethod(time.sleep)

    @staticmethod
    def run(functions: list[Callable[[], Any]]) -> list[Any]:
        results: list[Any] = [None] * len(functions)

        def keep(place: int) -> None:
            results[place] = functions[place]()

        threads = [threading.Thread(target=keep, args=(place,)) for place in range(len(functions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class Database:
    """A file with the table t(a), and who uses it."""

    def __init__(self, path: Path, kind: Any, mode: str) -> None:
        self.path, self.kind = path, kind
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("CREATE TABLE t (a)")
            connection.execute("INSERT INTO t VALUES (1)")
        connection.close()

    def connect(self, **options: Any) -> Any:
        return self.kind.sqlite.connect(self.path, **options)

    def rows(self) -> list[Any]:
        connection = sqlite3.connect(self.path)
        try:
            return [value for (value,) in connection.execute("SELECT a FROM t ORDER BY rowid")]
        finally:
            connection.close()

    def beside_writer(self, work: Work, stays: bool = False, before: Work | None = None, **options: Any) -> str:
        """Does `work` with a connection while a writer holds the lock; "ok", or the error.

        Args:
            work: What is done.
            stays: The writer keeps the lock until `work` has ended, not only for a moment from when it begins.
            before: What is done before the writer takes the lock.
            options: Of the connection.
        """
        ready, locked, begun, ended = (self.kind.event() for _ in range(4))

        def write() -> None:
            ready.wait()
            connection = self.connect()
            connection.execute("INSERT INTO t VALUES ('writer')")
            locked.set()
            begun.wait()
            if stays:
                ended.wait()
            self.kind.sleep(0.05)
            connection.commit()
            connection.close()

        def other() -> str:
            connection = self.connect(**options)
            try:
                if before is not None:
                    before(connection)
                ready.set()
                locked.wait()
                begun.set()
                work(connection)
                if connection.in_transaction:
                    connection.commit()
            except sqlite3.OperationalError as error:
                return f"{error.sqlite_errorname}: {error}"
            finally:
                connection.close()
                ended.set()
            return "ok"

        return str(self.kind.run([write, other])[1])


@pytest.fixture(params=[(kind, mode) for kind in (Greenlets, Threads) for mode in ("delete", "wal")], ids=str)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    kind, mode = request.param
    yield Database(tmp_path / "file.sqlite", kind, mode)


LOCKED = "SQLITE_BUSY: database is locked"


def with_block(connection: Any) -> None:
    with connection:
        connection.execute("INSERT INTO t VALUES (2)")


WRITES: dict[str, Work] = {
    "execute": lambda connection: connection.execute("INSERT INTO t VALUES (2)"),
    "cursor": lambda connection: connection.cursor().execute("INSERT INTO t VALUES (?)", (2,)),
    "begin": lambda connection: (connection.execute("BEGIN IMMEDIATE"), connection.execute("INSERT INTO t VALUES (2)")),
    "block": with_block,
}


@pytest.mark.parametrize("way", WRITES)
def test_a_write_waits_for_the_writer(database: Database, way: str) -> None:
    assert database.beside_writer(WRITES[way]) == "ok"
    assert database.rows() == [1, "writer", 2]


def test_rows_of_executemany_are_written_once(database: Database) -> None:
    rows = ((number,) for number in range(2, 5))
    insert = "INSERT INTO t VALUES (?)"
    assert database.beside_writer(lambda connection: connection.executemany(insert, rows)) == "ok"
    assert database.rows() == [1, "writer", 2, 3, 4]


def test_statements_of_a_script_are_executed_once(database: Database) -> None:
    script = """
        SELECT * FROM t; -- a comment; with a semicolon
        INSERT INTO t VALUES ('a;b'); /* ; */
        BEGIN;
        INSERT INTO t VALUES (3); SELECT a FROM t;
        CREATE TRIGGER again AFTER DELETE ON t BEGIN INSERT INTO t VALUES (4); INSERT INTO t VALUES (5); END;
        COMMIT;
        DELETE FROM t WHERE a = 3"""
    assert database.beside_writer(lambda connection: connection.executescript(script)) == "ok"
    assert database.rows() == [1, "writer", "a;b", 4, 5]


def test_returning_waits_for_the_writer(database: Database) -> None:
    seen: list[Any] = []
    insert = "INSERT INTO t VALUES (2) RETURNING a"
    work: Work = lambda connection: seen.extend(connection.execute(insert).fetchall())  # noqa: E731
    assert database.beside_writer(work, isolation_level=None) == "ok"
    assert seen == [(2,)] and database.rows() == [1, "writer", 2]


def test_a_commit_waits_for_readers(database: Database) -> None:
    kind, reading, begun = database.kind, database.kind.event(), database.kind.event()

    def read() -> None:
        connection = database.connect()
        cursor = connection.execute("SELECT a FROM t UNION ALL SELECT a FROM t")
        cursor.fetchone()
        reading.set()
        begun.wait()
        kind.sleep(0.05)
        cursor.close()
        connection.close()

    def write() -> None:
        connection = database.connect()
        reading.wait()
        connection.execute("INSERT INTO t VALUES (2)")
        begun.set()
        connection.commit()
        connection.close()

    kind.run([read, write])
    assert database.rows() == [1, 2]


@pytest.mark.parametrize("options", [{"timeout": 0.1}, {"timeout": 0}, {}], ids=str)
def test_the_timeout_is_the_programs(database: Database, options: dict[str, float]) -> None:
    def work(connection: Any) -> None:
        if not options:
            assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
            assert connection.execute("PRAGMA busy_timeout = 100").fetchone() == (100,)
            assert connection.execute("PRAGMA busy_timeout").fetchone() == (100,)
        connection.execute("INSERT INTO t VALUES (2)")

    assert database.beside_writer(work, stays=True, **options) == LOCKED
    assert database.rows() == [1, "writer"]


@pytest.mark.parametrize("way", ["transaction", "cursor"])
def test_who_has_read_and_may_not_write_is_told_at_once(database: Database, way: str) -> None:
    kept: list[Any] = []
    took: list[float] = []

    def before(connection: Any) -> None:
        if way == "transaction":
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM t").fetchall()
        else:
            kept.append(connection.execute("SELECT a FROM t UNION ALL SELECT a FROM t"))
            kept[0].fetchone()

    def work(connection: Any) -> None:
        began = time.monotonic()
        try:
            connection.execute("INSERT INTO t VALUES (2)")
        finally:
            took.append(time.monotonic() - began)
            kept.clear()

    assert database.beside_writer(work, stays=True, before=before, timeout=60) == LOCKED
    assert took[0] < 20, "as long as it may take, it is not the timeout"


def test_a_backup_waits(database: Database) -> None:
    def work(connection: Any) -> None:
        source = database.kind.sqlite.connect(":memory:")
        source.execute("CREATE TABLE t (a)")
        source.backup(connection, sleep=0.01)
        source.close()

    assert database.beside_writer(work) == "ok"
    assert database.rows() == []


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "serialize"), reason="this SQLite was built without it")
@pytest.mark.parametrize("stays", [False, True])
def test_serializing_waits(database: Database, stays: bool) -> None:
    """It needs the lock of a reader."""
    locked, begun, ended = (database.kind.event() for _ in range(3))

    def lock() -> None:
        connection = database.connect()
        connection.execute("BEGIN EXCLUSIVE")
        locked.set()
        begun.wait()
        if stays:
            ended.wait()
        database.kind.sleep(0.05)
        connection.rollback()
        connection.close()

    def serialize() -> Any:
        connection = database.connect(timeout=0.02 if stays else 60)
        locked.wait()
        begun.set()
        try:
            return connection.serialize()[:6]
        except sqlite3.OperationalError as error:
            return str(error)
        finally:
            connection.close()
            ended.set()

    with closing(sqlite3.connect(database.path)) as connection:
        locks_readers_out = connection.execute("PRAGMA journal_mode").fetchone() != ("wal",)
    expected = "unable to serialize 'main'" if stays and locks_readers_out else b"SQLite"
    assert database.kind.run([lock, serialize])[1] == expected


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "serialize"), reason="this SQLite was built without it")
@pytest.mark.parametrize("name", ["main", "other", 'a"b', "", 5, None])
def test_serializing_names_a_database_as_natively(path: Path, name: Any) -> None:
    def outcome(connect: Any) -> Any:
        connection = connect(path)
        try:
            connection.execute("ATTACH ':memory:' AS 'a\"b'")
            connection.execute("CREATE TABLE 'a\"b'.u (x)")
            return connection.serialize(name=name)
        except Exception as error:
            return type(error), str(error)
        finally:
            connection.close()

    assert outcome(green.connect) == outcome(sqlite3.connect)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Database(tmp_path / "file.sqlite", Greenlets, "delete").path


def test_factories_made_before_patching_wait_too(path: Path) -> None:
    class OldConnection(sqlite3.Connection):
        def greet(self) -> str:
            return "hello"

    class OldCursor(sqlite3.Cursor):
        def execute(self, *args: Any) -> Any:
            return super().execute(*args)

    connection = green.connect(path, factory=OldConnection)
    assert connection.greet() == "hello" and isinstance(connection, (OldConnection, green.Connection))
    cursor = connection.cursor(OldCursor)
    assert isinstance(cursor, OldCursor) and isinstance(cursor, green.Cursor)
    assert cursor.execute("SELECT a FROM t").fetchall() == [(1,)]
    assert type(connection.cursor()) is green.Cursor
    assert type(green.connect(path, 5.0, 0, None, True, OldConnection)) is type(connection)
    with pytest.raises(TypeError):
        connection.cursor(None)
    connection.close()


def test_a_wait_can_be_cut_off(path: Path) -> None:
    writer, other = green.connect(path), green.connect(path)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(streamserve.Timeout), streamserve.Timeout(0.02):
        other.execute("INSERT INTO t VALUES (2)")
    writer.commit()
    other.execute("INSERT INTO t VALUES (3)")
    other.commit()
    assert other.execute("SELECT a FROM t").fetchall() == [(1,), (3,)]
    writer.close()
    other.close()


def test_attributes_that_commit_wait(path: Path) -> None:
    reader, writer = green.connect(path), green.connect(path)
    cursor = reader.execute("SELECT 1 FROM t UNION ALL SELECT 2")
    writer.execute("INSERT INTO t VALUES (2)")
    streamserve.spawn_later(0.02, cursor.close)
    writer.isolation_level = None
    assert not writer.in_transaction and writer.isolation_level is None
    reader.close()
    writer.close()


def test_a_native_thread_without_a_loop_waits_by_itself(path: Path) -> None:
    writer = green.connect(path)
    writer.execute("BEGIN IMMEDIATE")
    asked = threading.Event()

    def write() -> None:
        connection = green.connect(path)
        asked.set()
        with connection:
            connection.execute("INSERT INTO t VALUES (2)")
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    asked.wait()
    writer.commit()
    thread.join()
    assert writer.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]
    writer.close()
