"""The access log: a line for each response, in the combined format.

Lines are gathered while the loop is busy and written together when it next has
a turn. What the client chose is escaped: a log line cannot be forged or colour a
terminal.
"""

from __future__ import annotations

import re
import time
from typing import Any

from streamserve.loop.hub import Hub

_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')


def escape(text: str) -> str:
    """Replaces quotes, backslashes, control and non-ASCII characters by \\xNN."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _text(environ: dict[str, Any], name: str) -> str:
    """A value of an environ that the application may have changed, emptied or filled with other types."""
    value = environ.get(name)
    return escape(str(value)) if value else "-"


class AccessLog:
    """Writes combined log lines to a text stream.

    Args:
        stream: has write(str), and may have flush().
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def record(self, hub: Hub, environ: dict[str, Any], status: int, size: int, seconds: float) -> None:
        """Notes one response.

        Args:
            size: bytes of the body sent.
            seconds: from the start of the application to the end of the response.
        """
        if not self._lines:
            hub.run_callback(self.flush)
        address = _text(environ, "REMOTE_ADDR")
        request = f"{_text(environ, 'REQUEST_METHOD')} {_text(environ, 'RAW_URI')} {_text(environ, 'SERVER_PROTOCOL')}"
        referer = _text(environ, "HTTP_REFERER")
        agent = _text(environ, "HTTP_USER_AGENT")
        self._lines.append(
            f'{address} - - [{self._time()}] "{request}" {status} {size or "-"} "{referer}" "{agent}" {seconds:.6f}\n'
        )

    def flush(self) -> None:
        """Writes what has gathered."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("".join(lines))
            flush = getattr(self._stream, "flush", None)
            if flush is not None:
                flush()

    def _time(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now))
        return self._stamp
