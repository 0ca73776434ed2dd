"""Framing through real proxies: the application never sees two requests where the proxy in front saw one.

Each proxy marks each request that it saw with a number of its own making, which no client knows. So a request that the
server cut out of what the proxy took for a body, or for one head, has no number, or one that was there before.
"""

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.server import Running
from tests.support.servers.proxies import Apache, Haproxy, Nginx, Proxy, blocks
from tests.support.wire import read_cases

pytestmark = pytest.mark.foreign

MARK = "HTTP_X_SEEN_BY_PROXY"
MARKING: dict[str, tuple[type[Proxy], str, str]] = {  # after this line of the page's configuration, this one
    "nginx": (Nginx, "proxy_pass http://app;", 'proxy_set_header X-Seen-By-Proxy "$request_id $request_method";'),
    "apache": (
        Apache,
        "RequestHeader unset Forwarded",
        'RequestHeader set X-Seen-By-Proxy "expr=%{env:UNIQUE_ID} %{REQUEST_METHOD}"',
    ),
    "haproxy": (Haproxy, "option forwardfor", 'http-request set-header X-Seen-By-Proxy "%[uuid] %[method]"'),
}
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
BEGUN = b"GET /smuggled HTTP/1.1\r\nX-Rest: "  # would swallow the first line of whoever comes next
LIMIT = 8192  # bytes: longer cases concern the server's own limits
SECONDS = 0.7  # for answers of a wave; a request that stays incomplete gets none
WAVE = 200  # connections

TRANSFER_CODINGS = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: x, chunked",
    b"Transfer-Encoding: chunked, x",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: CHUNKED",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding:\r\n chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
)
LENGTHS = (b"%d", b"+%d", b"0%d", b"%d,%d", b"%d, 0", b"0, %d", b"%d\r\nContent-Length: 0", b"0\r\nContent-Length: %d")
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0")


def corpus() -> Iterator[bytes]:
    """The cases of our own parsers, with a request behind each."""
    chunked = b"POST /case HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    for folder, head in (("http1", b""), ("chunked", chunked)):
        for case in read_cases(folder):
            if len(case.data) < LIMIT:
                for rest in (SMUGGLED, BEGUN):
                    yield head + case.data + rest


def contradictions() -> Iterator[bytes]:
    """Requests that end in two places: where a length says, and where chunks or another length do."""
    for version in VERSIONS:
        for coding in TRANSFER_CODINGS:
            for rest in (SMUGGLED, BEGUN):
                last, chunk = b"0\r\n\r\n" + rest, b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
                for fields, body in (
                    (b"Content-Length: %d\r\n" % len(last) + coding, last),
                    (coding + b"\r\nContent-Length: %d" % len(last), last),
                    (b"Content-Length: 4\r\n" + coding, chunk),
                    (coding, last),
                ):
                    yield b"POST /case %b\r\nHost: h\r\n%b\r\n\r\n%b" % (version, fields, body)
    for pattern in LENGTHS:
        length = pattern.replace(b"%d", b"%d" % len(SMUGGLED))
        for method in (b"GET", b"POST", b"HEAD", b"OPTIONS"):
            head = b"%b /case HTTP/1.1\r\nHost: h\r\n" % method
            yield head + b"Content-Length: %b\r\n\r\n%b" % (length, SMUGGLED)
            yield head + b"Expect: 100-continue\r\nContent-Length: %b\r\n\r\n%b" % (length, SMUGGLED)


class Recorder:
    """An application that keeps what it saw, and answers with its path."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []  # (the proxy's mark, method)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with self._lock:
            self.seen.append((environ.get(MARK, "nothing"), environ["REQUEST_METHOD"]))
        try:
            environ["wsgi.input"].read()
        finally:
            start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode("latin-1")]


def send_all(port: int, requests: list[bytes]) -> int:
    """Sends each on a connection of its own, and drops what comes; returns how many were answered at all."""
    answered = 0
    with selectors.DefaultSelector() as selector:
        for data in requests:
            client = socket.create_connection(("127.0.0.1", port), 60)
            client.sendall(data)
            selector.register(client, selectors.EVENT_READ, data)
        until = time.monotonic() + SECONDS
        silent = {key.fd for key in selector.get_map().values()}
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                silent.discard(key.fd)
                if not received(key.fileobj):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
        answered = len(requests) - len(silent)
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return answered


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except OSError:
        return b""


@pytest.fixture(params=list(MARKING))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("requests", [list(corpus()), list(contradictions())], ids=["corpus", "contradictions"])
def test_the_application_sees_no_request_that_the_proxy_did_not(kind: str, requests: list[bytes]) -> None:
    recorder = Recorder()
    program, line, marking = MARKING[kind]
    block = blocks(kind)[0]
    assert line in block
    with (
        Running(recorder, body_timeout=SECONDS) as running,
        program(block.replace(line, f"{line}\n{marking}"), running.port) as proxy,
    ):
        answered = 0
        for at in range(0, len(requests), WAVE):
            answered += send_all(proxy.port, requests[at : at + WAVE])
            for number in range(5):  # the next clients, on connections that the proxy has kept
                path = b"/witness-%d-%d" % (at, number)
                with Client(("127.0.0.1", proxy.port)) as client:
                    client.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
                    assert client.response().body == path
        assert answered > len(requests) / 2, "the proxy answered hardly anything: it was not tried"
    marks = [mark for mark, _ in recorder.seen]
    assert all(len(mark) > 20 and mark.split()[1] == method for mark, method in recorder.seen), recorder.seen
    assert len(set(marks)) == len(marks) > 100
