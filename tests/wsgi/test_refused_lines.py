"""What the access log has of requests that Python refuses: their first line, whether or not their head is kept."""

import io
from typing import Any

import pytest

from streamserve.sync.event import Event
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

FORWARDED = b"X-Forwarded-Proto: http\r\nForwarded: proto=https\r\n"
ASKED = (
    b"GET /%b?q=1 HTTP/1.1\r\nHost: h\r\n%b\r\n",
    b"GET /%b HTTP/1.0\r\nHost: h\r\n%b\r\n",
    b"\r\nPATCH /%b HTTP/1.1\r\nHost: h\r\n%b\r\n",
    b"BREW /%b HTTP/1.1\r\nHost: h\r\n%b\r\n",
    b"GET http://h/%b HTTP/1.1\r\nHost: h\r\n%b\r\n",
    b"HEAD /%b HTTP/1.1\r\nHost: h\r\n%b\r\n",
    b'GET /"%%41%b HTTP/1.1\r\nHost: h\r\n%b\r\n',
)


class Site:
    """Waits at /wait until it is opened."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.waiting += 1
            self.open.wait()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def first_line(request: bytes) -> str:
    """As the log has it."""
    return request.strip().split(b"\r\n")[0].decode().replace('"', r"\x22")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def refused(running: Running, stream: io.StringIO, request: bytes, status: int) -> None:
    """Asks, and finds the line in the access log."""
    stream.truncate(0)
    stream.seek(0)
    with running.client() as client:
        client.send(request)
        assert client.response(request.split()[0].decode()).status == status
    line = eventually(stream.getvalue, "a line")
    assert f'] "{first_line(request)}" {status} ' in line


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_full_queue(serve: Serve, stream: io.StringIO, known: bool) -> None:
    site = Site()
    running = serve(site, log=stream, concurrency=1, queue=0)
    requests = [form % (b"a", b"") for form in ASKED]
    for request in requests * 2 if known else ():
        with running.client() as client:
            client.send(request)
            assert client.response(request.split()[0].decode()).status == 200
    with running.client() as first:
        first.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: site.waiting, "the only place is taken")
        for request in requests:
            refused(running, stream, request, 503)
        running.call(site.open.set)
        assert first.response().status == 200


def test_a_connection_that_asks_the_same_again(serve: Serve, stream: io.StringIO) -> None:
    site = Site()
    running = serve(site, log=stream, concurrency=1, queue=0)
    request = ASKED[0] % (b"again", b"")
    with running.client() as client, running.client() as first:
        for _ in range(3):
            client.send(request)
            assert client.response().status == 200
        first.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: site.waiting, "the only place is taken")
        client.send(request)
        assert client.response().status == 503
        eventually(lambda: '"GET /again?q=1 HTTP/1.1" 503 ' in stream.getvalue(), "its line")
        running.call(site.open.set)


def test_a_wait_that_is_too_long(serve: Serve, stream: io.StringIO) -> None:
    site = Site()
    running = serve(site, log=stream, concurrency=1, queue_timeout=0.1)
    with running.client() as first:
        first.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: site.waiting, "the only place is taken")
        refused(running, stream, ASKED[0] % (b"late", b""), 503)
        running.call(site.open.set)


@pytest.mark.parametrize("form", ASKED)
@pytest.mark.parametrize("line", [FORWARDED, b"A_b: 1\r\n"], ids=["forwarded", "underscore"])
def test_fields_that_are_refused(serve: Serve, stream: io.StringIO, form: bytes, line: bytes) -> None:
    running = serve(Site(), log=stream, underscore_headers="refuse")
    for _ in range(3):
        refused(running, stream, form % (b"a", line), 400)


def test_a_long_line_is_cut(serve: Serve, stream: io.StringIO) -> None:
    running = serve(Site(), log=stream, underscore_headers="refuse", access_log_format="json")
    with running.client() as client:
        client.send(b"GET /%b HTTP/1.1\r\nHost: h\r\nA_b: 1\r\n\r\n" % (b"x" * 2000))
        assert client.response().status == 400
    assert '"method": null, "target": "GET /%s", "protocol": null' % ("x" * 507) in eventually(
        stream.getvalue, "a line"
    )
