"""What becomes of requests that the server answered without the application: a line in each log."""

from __future__ import annotations

import logging
import os
from typing import Any

from streamserve.core import ffi, lib
from streamserve.logs.access_log import AccessLog
from streamserve.logs.log_line import REFUSED_LINE
from streamserve.logs.peer_notices import SWEEP, PeerNotices
from streamserve.loop.hub import Hub
from streamserve.settings import Settings

_log = logging.getLogger("streamserve.wsgi")

LIMITS = {
    lib.SS_LINE_TOO_LONG: "max_request_line",
    lib.SS_HEAD_TOO_LARGE: "max_header_bytes",
    lib.SS_TOO_MANY_FIELDS: "max_header_fields",
    lib.SS_BODY_TOO_LARGE: "max_body_bytes",
    lib.SS_HEAD_TIMEOUT: "head_timeout",
    lib.SS_PROXY_TIMEOUT: "head_timeout",
    lib.SS_BODY_TIMEOUT: "body_timeout",
    lib.SS_OVERLOADED: "max_connections",
    lib.SS_BUFFERS_FULL: "max_buffer_bytes",
    lib.SS_HANDSHAKE_TIMEOUT: "handshake_timeout",
    lib.SS_HANDSHAKES_FULL: "max_handshakes",
}
"""The setting that a refusal enforces."""

_ADDRESS_BYTES = 128
_TEXT_BYTES = max(_ADDRESS_BYTES, lib.SS_REFUSED_LINE)


class Refusals:
    """Logs the refusals of one server, those of its core and its own.

    Args:
        settings: the limits, which are named.
        access_log: where each refused request has its line; None: nowhere.
    """

    def __init__(self, settings: Settings, access_log: AccessLog | None) -> None:
        self._settings = settings
        self._access_log = access_log
        self._hub: Hub | None = None
        self._timer = -1
        self._notices = PeerNotices(self._start_timer)
        self._text = ffi.new("char[]", _TEXT_BYTES)

    def open(self, hub: Hub) -> None:
        """Begins to tell of what happens on a hub."""
        self._hub = hub

    def close(self) -> None:
        """Tells what was only counted so far."""
        if self._hub is not None and self._timer >= 0:
            self._hub.stop_timer(self._timer, self)
            self._timer = -1
        self._notices.close()

    # ---- what happened; `line`: the first one of the request

    def note_overload(self, handle: int, active: int, queue: int, line: str) -> None:
        """A request finds no place to run or wait; before it is refused."""
        size = lib.ss_conn_address(self._core, handle, 0, self._text, _ADDRESS_BYTES)
        text = f"refused with 503: concurrency={active} and queue={queue} are exhausted"
        self._log(self._peer(size), lib.SS_OVERLOADED, logging.WARNING, text, line)

    def note_wait(self, handle: int, line: str) -> None:
        """A request has waited for a place for too long; before it is refused."""
        size = lib.ss_conn_address(self._core, handle, 0, self._text, _ADDRESS_BYTES)
        text = f"refused with 503: it waited queue_timeout={self._settings.queue_timeout} s for one of"
        text += f" concurrency={self._settings.concurrency} places"
        self._log(self._peer(size), lib.SS_OVERLOADED, logging.WARNING, text, line)

    def note_field(self, handle: int, text: str, line: str, refusal: int = lib.SS_BAD_FIELD_NAME) -> None:
        """A request has a header field that Python refuses; before it is refused."""
        size = lib.ss_conn_address(self._core, handle, 0, self._text, _ADDRESS_BYTES)
        self._log(self._peer(size), refusal, logging.INFO, f"refused with 400: {text}", line)

    def note(self, handle: int, refusal: int) -> None:
        """The core will refuse at Python's word; before it does."""
        size = lib.ss_conn_address(self._core, handle, 0, self._text, _ADDRESS_BYTES)
        self._log(self._peer(size), refusal, logging.INFO, self._words(refusal))

    def note_client(self, handle: int, text: str) -> None:
        """A connection is ended for what its client did, before there was a request."""
        size = lib.ss_conn_address(self._core, handle, 0, self._text, _ADDRESS_BYTES)
        self._notices.note(self._peer(size)[0], logging.INFO, text)

    def note_body(self, peer: str, refusal: int) -> None:
        """A request's body broke while the application read it; its access log line is that of the response."""
        self._notices.note(peer, logging.INFO, self._words(refusal))

    def note_failed_accept(self, code: int) -> None:
        """The core cannot accept, for this errno."""
        reason = os.strerror(code)
        _log.error("accepting pauses for a second: %s; raise the limit of open files (ulimit -n)", reason)

    def note_refused(self, peer: int, refusal: int) -> None:
        """The core refused a request of this peer (`ss_loop_refused`) and answered it."""
        size = lib.ss_loop_refused(self._core, peer, self._text, _ADDRESS_BYTES)
        named = self._peer(size)
        level = logging.WARNING if lib.ss_refusal_status(refusal) == 503 else logging.INFO
        size = lib.ss_loop_refused_line(self._core, peer, self._text, _TEXT_BYTES)
        line = ffi.unpack(self._text, size).decode("latin-1") if size > 0 else ""
        self._log(named, refusal, level, self._words(refusal), line)

    def _words(self, refusal: int) -> str:
        name = LIMITS.get(refusal)
        limit = f" ({name}={getattr(self._settings, name)})" if name is not None else ""
        status = lib.ss_refusal_status(refusal)
        return f"{f'refused with {status}' if status else 'closed'}: {_reason(refusal)}{limit}"

    def _log(self, peer: tuple[str, str], refusal: int, level: int, text: str, line: str = "") -> None:
        if self._access_log is not None and self._hub is not None and lib.ss_refusal_status(refusal):
            environ = {"REMOTE_ADDR": peer[0], "REMOTE_PORT": peer[1]}
            parts = line.split(" ")
            if len(parts) == 3:
                environ["REQUEST_METHOD"], environ["RAW_URI"], environ["SERVER_PROTOCOL"] = parts
            elif line:
                environ[REFUSED_LINE] = line
            size = len(_reason(refusal)) + 1  # and a line end, as in response.c
            self._access_log.record(self._hub, environ, lib.ss_refusal_status(refusal), size, 0.0)
        self._notices.note(peer[0], level, text)

    def _peer(self, size: int) -> tuple[str, str]:
        """Host and port out of what the core wrote; empty where it knows none."""
        if size <= 0:
            return "", ""
        host, port, _ = ffi.unpack(self._text, size).decode("ascii").split("\0")
        return host, port

    @property
    def _core(self) -> Any:
        return self._hub.core if self._hub is not None else ffi.NULL

    # ---- time

    def _start_timer(self) -> None:
        if self._hub is not None and not self._hub.destroyed:
            self._timer = self._hub.start_timer(SWEEP, self, counts=False)

    def fire(self) -> None:
        """The timer's end: what was counted may be told, but not among the events of a poll."""
        self._timer = -1
        if self._hub is not None:
            self._hub.run_callback(self._notices.sweep)


def _reason(refusal: int) -> str:
    text: bytes = ffi.string(lib.ss_refusal_text(refusal))
    return text.decode("ascii")
