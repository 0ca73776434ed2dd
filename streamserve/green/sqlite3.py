"""Cooperative `sqlite3`: what finds a database locked waits in the loop, as long as SQLite itself would.

SQLite waits inside its C code, with the whole thread: the greenlet that holds the lock cannot run and give it up, so
the wait is in vain and the program stands still. Here SQLite's own timeout is zero, and a call that is answered
SQLITE_BUSY is made again after a while, up to the timeout that the program gave.

Not each SQLITE_BUSY is one to wait for. Where waiting would be a deadlock (a transaction that has read wants to write
while another writes) SQLite answers at once, whatever the timeout, so that the program rolls back. It does not say
which it was. So the first repetition, and some of those that follow, let SQLite wait a millisecond: if it did not, it
would not have waited at all. That is all the loop stands still for.

A call that failed so has done nothing, and can be made again as it is; `executemany` goes on with the row that failed,
a script with its statement. Only one cannot: the rows of a statement with RETURNING outside of a transaction are
committed by the fetch of the last, and there SQLite waits itself.
"""

from __future__ import annotations

import re
import sqlite3 as _sqlite3
import time as _time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, count, repeat
from types import TracebackType
from typing import Any

from greenlet import getcurrent

from streamserve.loop.hubs import hub_of_thread
from streamserve.loop.joining import sleep as _sleep

__all__ = ["Connection", "Cursor", "connect"]
__target__ = "sqlite3"
__implements__ = ["Connection", "Cursor", "connect"]

_native_connect: Any = _sqlite3.connect
_NativeConnection: Any = _sqlite3.Connection
_NativeCursor: Any = _sqlite3.Cursor
_native_sleep = _time.sleep
_isolation_level: Any = _sqlite3.Connection.isolation_level
_autocommit: Any = getattr(_sqlite3.Connection, "autocommit", None)  # from CPython 3.12 on
_LEGACY = getattr(_sqlite3, "LEGACY_TRANSACTION_CONTROL", None)

DELAYS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05)
"""Seconds between attempts, SQLite's own; then LAST_DELAY."""
LAST_DELAY = 0.1

LOOK_MS = 1
LOOKS = 8
"""Of so many attempts, the first lets SQLite wait LOOK_MS, to see whether it would."""

_PARTS = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|(;)""", re.DOTALL)


def connect(*args: Any, **kwargs: Any) -> Any:
    """As `sqlite3.connect`; a `factory` that is a class gets what makes it wait in the loop."""
    if len(args) > 5:
        args = (*args[:5], _cooperative(args[5], Connection), *args[6:])
    else:
        kwargs["factory"] = _cooperative(kwargs.get("factory", Connection), Connection)
    return _native_connect(*args, **kwargs)


class _ConnectionMethods:
    """What a class of connections needs to wait in the loop.

    `_timeout` is in seconds. `_lent` is true while SQLite waits itself.
    """

    _timeout = 0.0
    _lent = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        timeout = args[1] if len(args) > 1 else kwargs.get("timeout", 5.0)
        if isinstance(timeout, (int, float)):  # else it is refused
            self._timeout = timeout
            if len(args) > 1:
                args = (args[0], 0.0, *args[2:])
            else:
                kwargs["timeout"] = 0.0
        super().__init__(*args, **kwargs)

    def cursor(self, factory: Any = _NativeCursor) -> Any:
        return _NativeConnection.cursor(self, _cooperative(factory, Cursor))

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self.cursor().executescript(*args)

    def commit(self) -> None:
        _patiently(self, _NativeConnection.commit, self)

    def blobopen(self, *args: Any, **kwargs: Any) -> Any:
        return _patiently(self, lambda: _NativeConnection.blobopen(self, *args, **kwargs))

    if hasattr(_NativeConnection, "serialize"):  # it depends on how SQLite was built

        def serialize(self, *, name: str = "main") -> Any:
            if not isinstance(name, str):
                return _NativeConnection.serialize(self, name=name)  # which says so
            reading = _NativeCursor(self)
            schema = '"' + name.replace('"', '""') + '".sqlite_schema'
            try:
                # It does not say that the database is locked. A statement that is amid its rows says so, and keeps
                # others from locking it meanwhile.
                with suppress(_sqlite3.DatabaseError):
                    _patiently(self, reading.execute, f"SELECT count(*) FROM {schema} UNION ALL SELECT 0")
                return _NativeConnection.serialize(self, name=name)
            finally:
                reading.close()

    def backup(
        self, target: Any, *, pages: int = -1, progress: Any = None, name: str = "main", sleep: float = 0.25
    ) -> None:
        if not _may_wait():
            _NativeConnection.backup(self, target, pages=pages, progress=progress, name=name, sleep=sleep)
            return

        def pause(status: int, remaining: int, total: int) -> None:  # SQLite holds nothing between two steps
            if progress is not None:
                progress(status, remaining, total)
            _sleep(0 if status in (_sqlite3.SQLITE_OK, _sqlite3.SQLITE_DONE) else sleep)

        if progress is not None and not callable(progress):
            raise TypeError("progress argument must be a callable")
        _NativeConnection.backup(self, target, pages=pages, progress=pause, name=name, sleep=0)

    def __exit__(self: Any, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> Any:
        if kind is not None:
            return super().__exit__(kind, error, trace)  # type: ignore[misc]
        try:
            _patiently(self, _NativeConnection.commit, self)
        except BaseException:
            self.rollback()
            raise
        return False

    @property
    def isolation_level(self) -> Any:
        return _isolation_level.__get__(self)

    @isolation_level.setter
    def isolation_level(self, level: Any) -> None:
        _patiently(self, _isolation_level.__set__, self, level)

    if _autocommit is not None:

        @property
        def autocommit(self) -> Any:
            return _autocommit.__get__(self)

        @autocommit.setter
        def autocommit(self, value: Any) -> None:
            _patiently(self, _autocommit.__set__, self, value)

    def _let_wait(self, milliseconds: int) -> bool:
        """Has SQLite itself wait so long; False if an authorizer forbids it."""
        self._lent = milliseconds > 0
        try:
            _NativeCursor(self).execute(f"PRAGMA busy_timeout = {milliseconds}").close()
        except _sqlite3.DatabaseError:
            return False
        return True

    def _learn_timeout(self) -> None:
        """The program has set SQLite's timeout: it is ours."""
        cursor = _NativeCursor(self)
        cursor.row_factory = None
        [milliseconds] = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.close()
        self._timeout = milliseconds / 1000
        self._let_wait(0)


class _CursorMethods:
    """What a class of cursors needs to wait in the loop."""

    connection: Any
    description: Any

    def execute(self, sql: Any, parameters: Any = (), /) -> Any:
        connection = self.connection
        if sql.__class__ is str and ("busy_timeout" in sql or "BUSY_TIMEOUT" in sql):
            return _setting_timeout(connection, _NativeCursor.execute, self, sql, parameters)
        result = _patiently(connection, _NativeCursor.execute, self, sql, parameters)
        if (
            self.description is not None
            and not connection.in_transaction
            and ("RETURNING" in sql or "returning" in sql)
        ):
            _lend(connection)
        return result

    def executemany(self, sql: Any, parameters: Iterable[Any], /) -> Any:
        rows = _Rows(parameters)
        return _patiently(self.connection, lambda: _NativeCursor.executemany(self, sql, rows.again()))

    def executescript(self, script: Any, /) -> Any:
        connection = self.connection
        if not isinstance(script, str) or "\0" in script or not isinstance(connection, _ConnectionMethods):
            return _NativeCursor.executescript(self, script)
        native: Any = connection
        legacy = getattr(native, "autocommit", _LEGACY) == _LEGACY
        if legacy and native.in_transaction:
            native.commit()
        for statement in _statements(script):
            way = _setting_timeout if "busy_timeout" in statement.lower() else _patiently
            way(native, self._run, statement, legacy)
        return self

    def _run(self, statement: str, legacy: bool) -> None:
        """Executes one statement of a script."""
        if not legacy or not self.connection.in_transaction:
            _NativeCursor.executescript(self, statement)
            return
        with_rows = _NativeCursor(self.connection)  # a script would be begun by a COMMIT
        with_rows.row_factory = None
        with_rows.execute(statement).fetchall()
        with_rows.close()


class Connection(_ConnectionMethods, _NativeConnection):  # type: ignore[misc]
    """`sqlite3.Connection`, which waits in the loop."""

    __module__ = "sqlite3"


class Cursor(_CursorMethods, _NativeCursor):  # type: ignore[misc]
    """`sqlite3.Cursor`, which waits in the loop."""

    __module__ = "sqlite3"


_made: dict[type, type] = {}


def _cooperative(factory: Any, kind: type) -> Any:
    """Returns a factory of what waits in the loop, where it is a class that was derived before patching."""
    native = kind.__mro__[2]
    if not isinstance(factory, type) or not issubclass(factory, native) or issubclass(factory, kind.__mro__[1]):
        return factory
    if factory is native:
        return kind
    made = _made.get(factory)
    if made is None:
        made = _made[factory] = type(factory.__name__, (factory, kind), {"__module__": factory.__module__})
    return made


class _Rows:
    """The rows of `executemany`; after a failure `again()` begins with the row that failed."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._given: Any = rows
        self._rows: Iterator[Any] | None = None
        self._last: list[Any] = []

    def again(self) -> Iterator[Any]:
        if self._rows is None:
            self._rows = iter(self._given)
        return chain(self._last[:], self._noting(self._rows))

    def _noting(self, rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            self._last = [row]
            yield row


def _statements(script: str) -> Iterator[str]:
    begin = 0
    for part in _PARTS.finditer(script):
        if part[1] and _sqlite3.complete_statement(script[begin : part.end()]):  # not so within a trigger
            yield script[begin : part.end()]
            begin = part.end()
    if script[begin:].strip():
        yield script[begin:]


# ---- waiting


def _patiently(connection: Any, call: Callable[..., Any], *args: Any) -> Any:
    """Makes a call, and again while it finds the database locked."""
    try:
        if getattr(connection, "_lent", False):
            connection._let_wait(0)
        return call(*args)
    except _sqlite3.OperationalError as error:
        if not _is_busy(error) or getattr(connection, "_timeout", 0.0) <= 0:
            raise
    return _again(connection, call, args)


def _again(connection: Any, call: Callable[..., Any], args: Any) -> Any:
    deadline = _time.monotonic() + connection._timeout
    for number, delay in zip(count(), chain(DELAYS, repeat(LAST_DELAY)), strict=False):
        looks = number % LOOKS == 0 and connection._let_wait(LOOK_MS)
        began = _time.monotonic()
        try:
            return call(*args)
        except _sqlite3.OperationalError as error:
            now = _time.monotonic()
            if not _is_busy(error) or now >= deadline or (looks and now - began < LOOK_MS / 1000):
                raise
        finally:
            if looks:
                connection._let_wait(0)
        _pause(min(delay, deadline - now))
    raise AssertionError("there is always another delay")


def _is_busy(error: _sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _sqlite3.SQLITE_BUSY


def _may_wait() -> bool:
    hub = hub_of_thread()
    return hub is not None and getcurrent() is not hub


def _pause(seconds: float) -> None:
    if _may_wait():
        _sleep(max(seconds, 0.0))
    else:  # in a native thread that has no loop, or in the loop itself
        _native_sleep(max(seconds, 0.0))


def _setting_timeout(connection: Any, call: Callable[..., Any], *args: Any) -> Any:
    """Makes a call that looks at SQLite's timeout or sets it."""
    if not isinstance(connection, _ConnectionMethods):
        return call(*args)
    _lend(connection)
    try:
        return call(*args)
    finally:
        connection._learn_timeout()


def _lend(connection: Any) -> None:
    """What follows is what SQLite must wait for itself, until the next call."""
    if isinstance(connection, _ConnectionMethods) and connection._timeout > 0:
        connection._let_wait(int(min(connection._timeout * 1000, 2**31 - 1)))
