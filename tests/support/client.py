"""A raw HTTP client: sends what it is told, and reads responses without any leniency."""

import re
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t -~\x80-\xff]*)")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)")
CHUNK_SIZE = re.compile(rb"[1-9a-f][0-9a-f]*|0")


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Truncated(AssertionError):
    """The connection ended inside a response."""


@dataclass
class Response:
    """One response: `fields` as (lowered name, value), the decoded body, and its chunks if it had any."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] | None = None
    to_the_end: bool = False  # the end of the connection is the end of the body

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found == name]

    def get(self, name: str) -> str | None:
        """The value of a field that may stand once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """Whether the response announces the end of the connection."""
        return self.get("connection") == "close"


class Client:
    """A connection to a server.

    Args:
        address: What getsockname() of the listener said.
        receive_buffer: SO_RCVBUF, in bytes: small for a client that is slow on purpose.
        timeout: Seconds after which a send or receive fails.
        source: The address to connect from, "": any.
    """

    def __init__(self, address: Any, receive_buffer: int = 0, timeout: float = 60.0, source: str = "") -> None:
        family = socket.AF_UNIX
        if isinstance(address, tuple):
            family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(60.0)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.settimeout(timeout)
        self.buffer = b""
        self.finished = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Each byte in a segment of its own."""
        for at in range(len(data)):
            self.socket.sendall(data[at : at + 1])

    def finish(self) -> None:
        """Shuts our side: the server reads the end of the stream."""
        self.socket.shutdown(socket.SHUT_WR)
        self.finished = True

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # ---- reading

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def line(self) -> bytes:
        """The next line, without its CRLF."""
        while b"\n" not in self.buffer:
            if not self._more():
                raise Truncated(f"the connection ended inside a line: {self.buffer!r}")
        line, _, self.buffer = self.buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"a line ends with a bare LF: {line!r}"
        assert b"\r" not in line[:-1], f"a line has a bare CR: {line!r}"
        return line[:-1]

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self.buffer) < count:
            if not self._more():
                raise Truncated(f"the connection ended {count - len(self.buffer)} bytes early")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def response(self, method: str = "GET") -> Response:
        """Reads one response, framed as RFC 9112 section 6 says."""
        response = self.head()
        while self.finished and response.status == 100:  # a busy server asks so whether we are there (left_after)
            response = self.head()
        length, coding = response.get("content-length"), response.get("transfer-encoding")
        if response.status < 200 or response.status in (204, 304) or method == "HEAD":
            if response.status < 200 or response.status == 204:
                assert length is None and coding is None, f"a {response.status} must not be framed: {response}"
            return response
        assert length is None or coding is None, f"Content-Length beside Transfer-Encoding: {response}"
        if coding is not None:
            assert coding == "chunked", coding
            self._read_chunks(response)
        elif length is not None:
            assert length.isascii() and length.isdigit(), length
            response.body = self.exactly(int(length))
        else:
            assert response.closes, f"a body without length must end with the connection: {response}"
            response.to_the_end = True
            response.body = self.rest()
        return response

    def head(self) -> Response:
        """Reads a status line and its fields."""
        first = self.line()
        match = STATUS_LINE.fullmatch(first)
        assert match, f"not a status line: {first!r}"
        response = Response(int(match[1]), match[2].decode("latin-1"), [])
        while line := self.line():
            field = FIELD.fullmatch(line)
            assert field, f"not a field: {line!r}"
            response.fields.append((field[1].decode().lower(), field[2].decode("latin-1")))
        return response

    def _read_chunks(self, response: Response) -> None:
        response.chunks = []
        while True:
            size = self.line()
            assert CHUNK_SIZE.fullmatch(size), f"not a chunk size: {size!r}"
            data = self.exactly(int(size, 16))
            assert self.line() == b"", "a chunk does not end with CRLF"
            if not data:
                return
            response.chunks.append(data)
            response.body += data

    def ended(self) -> bool:
        """Waits for the end of the connection; False if bytes come instead."""
        if self.buffer:
            return False
        try:
            return not self._more()
        except ConnectionResetError:
            return True

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
