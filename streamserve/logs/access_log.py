"""The access log: a line for each response, in the format that is set.

Lines are gathered while the loop is busy and written together when it next has
a turn.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from streamserve.logs.log_file import LogFile, LogStream
from streamserve.logs.log_line import clock_of, compile_line
from streamserve.loop.hub import Hub

if TYPE_CHECKING:
    from streamserve.gateway.response_head import ResponseHead

AGAIN = 0.1
"""Seconds until a reader that was too slow is tried again."""


class AccessLog:
    """Writes a line for each response.

    Args:
        target: has write(text, lines) → whether to call it again soon, and close().
        format: see log_format.py.

    Raises:
        ConfigurationError: the format has a field that does not exist.
    """

    def __init__(self, target: LogFile | LogStream, format: str) -> None:
        self._target = target
        self._line = compile_line(format)
        self._clock = clock_of(format)
        self._hub: Hub | None = None
        self._timer = -1
        self._lines: list[str] = []
        self._second = 0
        self._time = ""

    def record(
        self,
        hub: Hub,
        environ: dict[str, Any],
        status: int,
        size: int,
        seconds: float,
        head: ResponseHead | None = None,
    ) -> None:
        """Notes one response.

        Args:
            environ: of the request; what is not known of it is missing.
            size: bytes of the body sent.
            seconds: from the start of the application to the end of the response.
            head: that of the response; None: it had none, or the core made it.
        """
        if not self._lines:
            self._hub = hub
            hub.run_callback(self.flush)
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._time = self._clock(now)
        try:
            line = self._line(environ, status, size, seconds, head, self._time)
        except Exception:  # the application left something in the environ that cannot be shown
            line = self._line({}, status, size, seconds, head, self._time)
        self._lines.append(line)

    def flush(self) -> None:
        """Writes what has gathered."""
        lines, self._lines = self._lines, []
        if self._target.write("".join(lines), len(lines)) and self._timer < 0 and self._hub is not None:
            self._timer = self._hub.start_timer(AGAIN, self, counts=False)

    def fire(self) -> None:
        """The timer's end: tries the reader again, but not among the events of a poll."""
        self._timer = -1
        if self._hub is not None:
            self._hub.run_callback(self.flush)

    def close(self) -> None:
        """Writes what has gathered, and says what was lost. Lines of requests that end later are still written."""
        if self._timer >= 0 and self._hub is not None:
            self._hub.stop_timer(self._timer, self)
            self._timer = -1
        self._target.write("".join(self._lines), len(self._lines))
        self._lines.clear()
        self._target.close()


def open_access_log(log: Any, path: str, format: str) -> AccessLog | None:
    """Opens the access log of a server.

    Args:
        log: a stream with write(str), None for no log, or "default": as `path` says.
        path: a file, - for standard output, or "" for no log.
        format: see log_format.py.

    Raises:
        OSError: the file cannot be opened.
        ConfigurationError: the format has a field that does not exist.
    """
    if log is None or (log == "default" and not path):
        return None
    if log != "default":
        return AccessLog(LogStream(log), format)
    if path != "-":
        return AccessLog(LogFile(path), format)
    try:
        return AccessLog(LogFile(sys.stdout.fileno()), format)
    except (AttributeError, OSError, ValueError):  # it is closed, or something else took its place
        return AccessLog(LogStream(sys.stdout), format)
