"""Where access log lines go. Nothing that happens to it stops the server: lines that cannot be written are counted.

A file that is moved away is opened again under its name, within a second and without a signal: logrotate needs no
script. A pipe whose reader is slow is not waited for; what it does not take is kept up to MOST_PENDING bytes.
"""

from __future__ import annotations

import logging
import os
import select
import stat
from collections.abc import Callable
from time import monotonic
from typing import Any

from streamserve.monkey.originals import get_original

__all__ = ["LogFile", "LogStream"]

_log = logging.getLogger("streamserve.wsgi")

MOST_PENDING = 1 << 20
"""Bytes that wait for the reader of a pipe."""

_Poll: Any = get_original("select", "poll")  # the patched one would wait in the loop


class _Losses:
    """Counts the lines that could not be written; says once that there are some, and once that it is over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost = 0

    def lose(self, lines: int, reason: object) -> None:
        if not self.lost:
            _log.error("%s cannot be written: %s; its lines are dropped until it can", self.name, reason)
        self.lost += lines

    def recovered(self) -> None:
        if self.lost:
            lost, self.lost = self.lost, 0
            _log.warning("%s is written again; lines dropped meanwhile: %d", self.name, lost)

    def close(self) -> None:
        if self.lost:
            lost, self.lost = self.lost, 0
            _log.error("%s could not be written to the end; lines dropped: %d", self.name, lost)


class LogStream(_Losses):
    """An object with write(str), and perhaps flush(), which is not closed."""

    def __init__(self, stream: Any) -> None:
        super().__init__(f"the access log {stream!r:.100}")
        self._stream = stream
        self._flush = getattr(stream, "flush", None)

    def write(self, text: str, lines: int) -> bool:
        """Writes the lines; True: some of them are still to be written."""
        try:
            self._stream.write(text)
            if self._flush is not None:
                self._flush()
        except Exception as error:
            self.lose(lines, error)
        else:
            self.recovered()
        return False


class LogFile(_Losses):
    """A file, a pipe or a terminal.

    Args:
        path: of the file, which is made if it does not exist; a number: a descriptor, which stays the caller's.
        clock: seconds, monotonic.

    Raises:
        OSError: it cannot be opened. ENXIO: a named pipe that nobody reads.
    """

    def __init__(self, path: str | int, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(f"the access log {path!r}" if isinstance(path, str) else "the access log")
        self._path = path
        self._clock = clock
        self._looked = int(clock())
        self._pending = b""
        self._torn = False  # the last line that was written has no end
        self._fd = -1
        self._fd = self._open()
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    def _open(self) -> int:
        if isinstance(self._path, int):
            return self._path
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)

    def __del__(self) -> None:
        """Not before: requests that were cut off may still write their lines."""
        if self._fd >= 0 and self._fd != self._path:
            os.close(self._fd)

    def write(self, text: str, lines: int) -> bool:
        """Writes the lines; True: some of them wait for a reader, call again."""
        second = int(self._clock())
        if second != self._looked:
            self._looked = second
            if self._regular and self._path != self._fd:
                self._follow()
        data = text.encode("utf-8", "backslashreplace")
        if not self._regular:
            return self._write_pipe(data, lines)
        if data:
            self._write_file(data, lines)
        return False

    def _write_file(self, data: bytes, lines: int) -> None:
        try:
            if self._torn:
                self._torn = os.write(self._fd, b"\n") == 0
            while data:
                count = os.write(self._fd, data)
                lines -= data.count(b"\n", 0, count)
                self._torn = not data[:count].endswith(b"\n")
                data = data[count:]
        except OSError as error:
            self.lose(lines, error.strerror)
        else:
            self.recovered()

    def _follow(self) -> None:
        """Opens the file again where another one, or none, has its name now."""
        try:
            named, ours = os.stat(self._path), os.fstat(self._fd)
            if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            fd = self._open()
        except OSError as error:
            _log.error("%s was moved and cannot be opened again: %s", self.name, error.strerror)
            return
        os.close(self._fd)
        self._fd = fd
        self._torn = False

    # ---- pipes

    def _write_pipe(self, data: bytes, lines: int) -> bool:
        if len(self._pending) + len(data) <= MOST_PENDING:
            self._pending += data
        else:
            self.lose(lines, "its reader is too slow")
        taken = 0
        try:
            while self._pending and self._takes_more():  # so many bytes are taken without waiting (pipe(7))
                taken = os.write(self._fd, self._pending[: select.PIPE_BUF])
                self._pending = self._pending[taken:]
        except BlockingIOError:
            pass
        except OSError as error:
            pending, self._pending = self._pending, b""
            self.lose(pending.count(b"\n"), error.strerror)
            return False
        if taken and not self._pending:
            self.recovered()
        return bool(self._pending)

    def _takes_more(self) -> bool:
        poller = _Poll()
        poller.register(self._fd, select.POLLOUT)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Tells of what was lost; what the reader has not taken by now is."""
        if self._pending:
            pending, self._pending = self._pending, b""
            self.lose(pending.count(b"\n"), "its reader is too slow")
        super().close()
