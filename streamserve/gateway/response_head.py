"""Response heads: validated, turned into bytes, remembered.

Applications repeat their status and headers, so the bytes are kept under exactly
what the application passed. Date, framing and Connection are not part of them:
the core adds those when it sends.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from streamserve.core import ffi, lib
from streamserve.errors import LocalProtocolError

_log = logging.getLogger("streamserve.wsgi")

_STATUS = re.compile(r"[1-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
"""IMF-fixdate, the form that is sent (RFC 9110 section 5.6.7)."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization proxy-connection"
    " te trailer trailers transfer-encoding upgrade".split()
)
"""Fields of the connection, which is the server's affair (PEP 3333, "Other HTTP Features")."""

_HEAD: int = lib.SS_SEND_HEAD
_DATED: int = lib.SS_SEND_DATED

MOST_HEADS = 1024
LARGEST_HEAD = 4096


class ResponseHead:
    """The bytes of a status line and header fields, and what they mean for the body.

    Attributes:
        data: ends with the CRLF of the last field.
        size: len(data).
        length: the Content-Length the application gave, -1: none.
        status: the code.
        bodiless: no body may follow, whatever the method: 1xx, 204, 304.
        flags: those of the send that begins with it.
        whole: the ss_response_head for a response that leaves in one send; None if bodiless.
    """

    __slots__ = ("_pinned", "bodiless", "data", "flags", "length", "size", "status", "whole")

    def __init__(self, data: bytes, status: int, length: int, flags: int = _HEAD) -> None:
        self.data = data
        self.size = len(data)
        self.status = status
        self.length = length
        self.flags = flags
        self.bodiless = status < 200 or status in (204, 304)
        self.whole: Any = None
        if not self.bodiless:
            self._pinned = ffi.from_buffer(data)
            self.whole = ffi.new("ss_response_head *")
            self.whole.data = self._pinned
            self.whole.length = self.size
            self.whole.flags = flags | lib.SS_SEND_LAST | (lib.SS_SEND_LENGTH if length < 0 else 0)

    def with_line(self, line: bytes) -> ResponseHead:
        """Another head, with one field more; `line` ends with CRLF and has been checked."""
        return ResponseHead(self.data + line, self.status, self.length, self.flags)

    @property
    def without_length(self) -> bytes:
        """The bytes without Content-Length, which a tunnel may not have (RFC 9110 section 9.3.6)."""
        lines = self.data.split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(b"content-length:"))


def _content_length(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise LocalProtocolError(f"Content-Length must be a number of bytes, not {value[:80]!r}")
    if len(value) > 18:
        raise LocalProtocolError(f"Content-Length has {len(value)} digits, more than the 18 that a length may have")
    return int(value)


def encode_field(name: Any, value: Any) -> bytes:
    """Returns the line of a header field.

    Raises:
        LocalProtocolError: the name or the value may not go on the wire.
    """
    if name.__class__ is not str and not isinstance(name, str):
        raise LocalProtocolError(f"a header name must be a str, not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise LocalProtocolError(f"a header name must be a token (RFC 9110 section 5.1), not {name[:80]!r}")
    if not isinstance(value, str):
        raise LocalProtocolError(f"the value of header {name!r} must be a str, not {type(value).__name__}")
    if not _VALUE.fullmatch(value):
        raise LocalProtocolError(f"the value of header {name!r} has a control character or is not latin-1")
    return f"{name}: {value}\r\n".encode("latin-1")


def build_head(status: Any, headers: Any, server: str) -> ResponseHead:
    """Validates what the application passed to start_response and encodes it.

    Args:
        status: "200 OK".
        headers: a list of (name, value).
        server: the Server field to add if the application has none; "": none.

    Raises:
        LocalProtocolError: something of it may not go on the wire; nothing was sent.
    """
    if not isinstance(status, str) or not _STATUS.fullmatch(status):
        raise LocalProtocolError(f'the status must be like "200 OK", not {status!r:.80}')
    code = int(status[:3])
    if code == 101 or code < 200:
        raise LocalProtocolError(f"an application cannot send an interim response, status {status!r}")
    parts = [f"HTTP/1.1 {status}\r\n".encode("latin-1")]
    length = -1
    flags = _HEAD
    has_server = not server
    for name, value in headers:
        line = encode_field(name, value)
        lowered = name.lower()
        if lowered in HOP_BY_HOP:
            _log.warning("the application set the hop-by-hop header %r; it was dropped", name)
            continue
        if lowered == "content-length":
            if length >= 0:
                raise LocalProtocolError("the application set Content-Length twice")
            length = _content_length(value)
            if code in (204, 205):
                continue  # RFC 9110 sections 8.6, 15.3.6
        elif lowered == "server":
            has_server = True
        elif lowered == "date":
            if flags & _DATED or not _DATE.fullmatch(value):
                continue  # the server's own takes its place
            flags |= _DATED  # that of a response which is kept or passed on (RFC 9110 section 6.6.1)
        parts.append(line)
    if not has_server:
        parts.append(f"Server: {server}\r\n".encode("latin-1"))
    if code == 205:
        parts.append(b"Content-Length: 0\r\n")
        length = 0
    return ResponseHead(b"".join(parts), code, length, flags)


class HeadCache:
    """Remembers heads; bounded in entries and in the bytes of each.

    `last_*` is what was asked for last: most applications ask for the same again,
    and comparing is cheaper than hashing.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self.heads: dict[tuple[Any, ...], ResponseHead] = {}
        self.last_status: Any = object()  # equal to nothing that can be passed
        self.last_headers: list[tuple[str, str]] = []
        self.last_head = build_head("200 OK", [], server)

    def find(self, status: Any, headers: Any) -> ResponseHead:
        """Returns the head for what the application passed to start_response.

        Raises:
            LocalProtocolError: something of it may not go on the wire.
        """
        if not isinstance(headers, list):
            headers = list(headers)  # an iterator can be read only once
        try:
            head = self.heads.get((status, *headers))
        except TypeError:  # a header that cannot be hashed: a list, or nothing that can be a header
            return build_head(status, headers, self.server)
        if head is None:
            head = build_head(status, headers, self.server)
            if head.size > LARGEST_HEAD or not all(field.__class__ is tuple for field in headers):
                return head
            if len(self.heads) >= MOST_HEADS:
                self.heads.clear()
            self.heads[(status, *headers)] = head
        self.last_head = head
        self.last_status = status
        self.last_headers = list(headers)
        return head
