"""What clients repeat is built once: environs by the slots under which the core reports them.

`templates` has an environ for each header block, `targets` the values of each request target, `pages` whole environs
for pairs of them. A request is a copy of one and a few assignments; see ARCHITECTURE.md, "The memo".
"""

from __future__ import annotations

from typing import Any

from streamserve.core import ffi, lib
from streamserve.gateway.environ import (
    Environ,
    UnderscoreInName,
    add_fields,
    set_other_form,
    target_values,
)
from streamserve.gateway.forwarded import FIELDS, ForwardedConflict, ForwardedHeaders
from streamserve.gateway.refusals import Refusals
from streamserve.gateway.request_body import EMPTY_BODY

METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")
_GET: int = lib.SS_GET
_NEW_BLOCK: int = lib.SS_REQUEST_NEW_BLOCK
_NEW_TARGET: int = lib.SS_REQUEST_NEW_TARGET
_NEW_PEER: int = lib.SS_REQUEST_NEW_PEER
_HTTP10: int = lib.SS_REQUEST_HTTP10
_DECODED: int = lib.SS_REQUEST_DECODED
_FORM: int = lib.SS_REQUEST_FORM
_METHOD: int = lib.SS_REQUEST_METHOD
_METHOD_SHIFT: int = lib.SS_METHOD_SHIFT
_PAGE_SHIFT: int = lib.SS_PAGE_SHIFT
_TARGET: int = (1 << _PAGE_SHIFT) - 1
_NEEDS_HEAD = _NEW_BLOCK | _NEW_TARGET | _FORM
_INDEX = 0xFFFFFFFF

MOST_AGAIN = 1024
"""Connections whose last environ, with their address in it, is remembered."""

MOST_PAGES = 1024
"""Pairs of a header block and a target whose whole environ is remembered."""

MOST_HANDSHAKES = 64
"""Header blocks of WebSocket handshakes, without their keys, of which the environ is remembered."""

_KEY = b"Sec-WebSocket-Key: "
_KEY_LINE = len(_KEY) + 24  # 16 bytes in base64 (RFC 6455 section 4.1)


class RequestRefused(Exception):
    """The request was answered before it reached the application."""


class EnvironMemory:
    """Makes the environs of one listener's requests.

    Args:
        core: of the listener.
        base: what every environ has.
        forwarding: whose word on the client counts; None: nobody's.
        refusals: where the refused are told.
        underscores: what to do with names that have one: drop, refuse or keep.

    Attributes:
        again: by connection: for clients that ask the same thing again.
    """

    def __init__(
        self, core: Any, base: Environ, forwarding: ForwardedHeaders | None, refusals: Refusals, underscores: str
    ) -> None:
        self.base = base
        self.templates: dict[int, Environ] = {}
        self.forwarded: set[int] = set()  # slots of blocks whose meaning depends on who sent them: never in `pages`
        self.forwarding = forwarding
        self.targets: dict[int, tuple[str, str, str]] = {}
        self.pages: dict[int, Environ] = {}
        self.again: dict[int, Environ] = {}
        self._handshakes: dict[bytes, Environ] = {}
        self.peers: dict[int, tuple[str, str]] = {}
        self._peer_handles: dict[int, int] = {}  # connection index → the handle under which `peers` has it
        self._core = core
        self._refusals = refusals
        self._underscores = underscores
        self._head = ffi.new("ss_http1 *")
        self._text = ffi.new("char[]", 128)

    def common(self, handle: int, page: int, flags: int) -> Environ:
        """The environ of a request of which everything was seen before; flags: this connection will ask it again."""
        if not flags:
            self.again.pop(handle, None)  # what this connection asked for before
        known = self.pages.get(page)
        if known is None and page >> _PAGE_SHIFT in self.forwarded:
            return self._forwarded_environ(handle, page)
        environ = self._new_page(page) if known is None else known.copy()
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.peers[handle]
        if flags:
            if len(self.again) >= MOST_AGAIN:
                self.again.clear()
            self.again[handle] = environ.copy()
        return environ

    def _replaces(self, slots: dict[int, Any], slot: int) -> None:
        """Forgets what was made of the former content of a slot of the core's memo."""
        if slot in slots:
            self.pages.clear()
            self.again.clear()

    def _new_page(self, page: int) -> Environ:
        """Remembers the environ of a header block and a target that were both seen before."""
        environ = self.templates[page >> _PAGE_SHIFT].copy()
        environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"] = values = self.targets[page & _TARGET]
        environ["REQUEST_URI"] = values[2]
        if len(self.pages) >= MOST_PAGES:
            self.pages.clear()
        self.pages[page] = environ
        return environ.copy()

    def _forwarded_environ(self, handle: int, page: int) -> Environ:
        """The environ of a request that came through a proxy, and that was seen before."""
        environ = self.templates[page >> _PAGE_SHIFT].copy()
        environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"] = values = self.targets[page & _TARGET]
        environ["REQUEST_URI"] = values[2]
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.peers[handle]
        self._apply_forwarded(handle, page, 0, environ)
        return environ

    def _apply_forwarded(self, handle: int, page: int, flags: int, environ: Environ) -> None:
        if self.forwarding is None:
            return
        try:
            self.forwarding.apply(environ)
        except ForwardedConflict as conflict:
            line = self.request_line(handle, page, flags)
            self._refusals.note_field(handle, str(conflict), line, lib.SS_BAD_FORWARDED)
            lib.ss_conn_refuse(self._core, handle, lib.SS_BAD_FORWARDED)
            raise RequestRefused() from None

    # ---- a request that is not all known

    def uncommon(self, handle: int, page: int, flags: int) -> Environ:
        """The environ of a request whose record has flags; what is new of it is remembered.

        Raises:
            RequestRefused: it was answered, or the server was closed before it began.
        """
        method = flags >> _METHOD_SHIFT if flags & _METHOD else _GET
        peer = self._new_peer(handle) if flags & _NEW_PEER else self.peers[handle]
        data = b""
        if flags & _NEEDS_HEAD or not METHODS[method]:
            data = self._head_bytes(handle)
        environ = self._new_template(handle, data) if flags & _NEW_BLOCK else self.templates[page >> _PAGE_SHIFT].copy()
        if flags & _FORM:
            span = self._head.target
            set_other_form(environ, data[span.offset : span.offset + span.length])
        else:
            values = self._new_target(handle, data) if flags & _NEW_TARGET else self.targets[page & _TARGET]
            environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"] = values
            environ["REQUEST_URI"] = values[2]
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = peer
        if not environ.keys().isdisjoint(FIELDS) if flags & _NEW_BLOCK else page >> _PAGE_SHIFT in self.forwarded:
            self._apply_forwarded(handle, page, flags, environ)
        environ["REQUEST_METHOD"] = METHODS[method] or self._method(data)
        if flags & _HTTP10:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        if flags & _DECODED:
            environ["CONTENT_LENGTH"] = str(lib.ss_conn_body_left(self._core, handle))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ

    def request_line(self, handle: int, page: int, flags: int) -> str:
        """What a request asks, for the log: its first line, at most SS_REFUSED_LINE characters; "" if it is gone.

        Args:
            handle, page, flags: of its record. It may be any that the application was not given yet.
        """
        pointer = lib.ss_conn_head(self._core, handle, self._head)
        if pointer != ffi.NULL:
            start = self._head.method.offset
            size = min(self._head.block - start, lib.SS_REFUSED_LINE)
            line: bytes = ffi.unpack(pointer + start, size)
            return line.partition(b"\r")[0].partition(b"\n")[0].decode("latin-1")
        target = self.targets.get(page & _TARGET)
        if target is None:
            return ""
        method = METHODS[flags >> _METHOD_SHIFT] if flags & _METHOD else "GET"
        protocol = "HTTP/1.0" if flags & _HTTP10 else "HTTP/1.1"
        return f"{method} {target[2]} {protocol}"[: lib.SS_REFUSED_LINE]

    def _head_bytes(self, handle: int) -> bytes:
        pointer = lib.ss_conn_head(self._core, handle, self._head)
        if pointer == ffi.NULL:
            raise RequestRefused()  # the server was closed before it began
        data: bytes = ffi.unpack(pointer, self._head.end)
        return data

    def _method(self, data: bytes) -> str:
        span = self._head.method
        return data[span.offset : span.offset + span.length].decode("ascii")

    def _new_template(self, handle: int, data: bytes) -> Environ:
        block = data[self._head.block : self._head.end]
        if _KEY in block:
            return self._of_handshake(handle, block)
        environ = self._with_fields(handle, block)
        if "HTTP_SEC_WEBSOCKET_KEY" in environ:
            return environ  # no second handshake has the same: what others repeat keeps its place
        template = environ.copy()  # before the core promises to know it: this may fail
        slot = self._remember(handle, 0, self.templates, template)
        if self.forwarding is None or environ.keys().isdisjoint(FIELDS):
            self.forwarded.discard(slot)
        else:
            self.forwarded.add(slot)
        return environ

    def _with_fields(self, handle: int, block: bytes) -> Environ:
        environ = self.base.copy()
        environ["wsgi.input"] = EMPTY_BODY
        try:
            add_fields(environ, block, self._underscores)
        except UnderscoreInName as name:
            text = f"the header name {str(name)!r} has an underscore"
            self._refusals.note_field(handle, text, self.request_line(handle, 0, _NEW_BLOCK))
            lib.ss_conn_refuse(self._core, handle, lib.SS_BAD_FIELD_NAME)
            raise RequestRefused() from None
        return environ

    def _of_handshake(self, handle: int, block: bytes) -> Environ:
        """The environ of a handshake: what a program says each time it connects differs only in the key."""
        begin = block.find(_KEY)
        end = block.find(b"\r\n", begin)
        if end - begin != _KEY_LINE or (begin and block[begin - 1 : begin] != b"\n"):
            return self._with_fields(handle, block)
        rest = block[:begin] + block[end + 2 :]
        known = self._handshakes.get(rest)
        if known is None:
            known = self._with_fields(handle, rest)
            if "HTTP_SEC_WEBSOCKET_KEY" in known:  # there are two
                return self._with_fields(handle, block)
            if len(self._handshakes) >= MOST_HANDSHAKES:
                self._handshakes.clear()
            self._handshakes[rest] = known
        environ = known.copy()
        environ["HTTP_SEC_WEBSOCKET_KEY"] = block[begin + len(_KEY) : end].decode("latin-1").strip(" \t")
        return environ

    def _new_target(self, handle: int, data: bytes) -> tuple[str, str, str]:
        span = self._head.target
        values = target_values(data[span.offset : span.offset + span.length])
        self._remember(handle, 1, self.targets, values)
        return values

    def _remember(self, handle: int, which: int, slots: dict[int, Any], value: Any) -> int:
        """Keeps a value under the slot that the core gives it; both do, or neither. Below zero: they did not."""
        try:
            slot = lib.ss_conn_memoise(self._core, handle, which)
            if slot >= 0:
                self._replaces(slots, slot)
                slots[slot] = value
            return int(slot)
        except BaseException:  # no memory, or a signal's function raised
            lib.ss_conn_forget(self._core, handle)
            raise

    def _new_peer(self, handle: int) -> tuple[str, str]:
        size = lib.ss_conn_address(self._core, handle, 0, self._text, 128)
        host, port = "", ""
        if size > 0:
            host, port, _ = ffi.unpack(self._text, size).decode("ascii").split("\0")
        peer = self.peers[handle] = (host, port)
        previous = self._peer_handles.get(handle & _INDEX)
        if previous is not None and previous != handle:
            del self.peers[previous]  # that connection is closed: its place was taken
        self._peer_handles[handle & _INDEX] = handle
        return peer
