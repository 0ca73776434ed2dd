"""A chunked body that fits the buffer is one of a known length for the application: point 55 of the promises."""

import io
import logging
from typing import Any

import pytest

from streamserve.core import lib
from tests.support.client import Client
from tests.support.server import eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
MEGABYTE = 1 << 20


def by_length(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Reads as frameworks do that know no input_terminated: Django, Bottle."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    data = environ["wsgi.input"].read(length)
    rest = environ["wsgi.input"].read(10) if "HTTP_TRANSFER_ENCODING" not in environ else b""
    start_response("200 OK", [("X-Length", str(environ.get("CONTENT_LENGTH"))), ("X-Rest", str(len(rest)))])
    return [data]


def chunked(body: bytes, size: int, fields: bytes = b"", trailer: bytes = b"") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + fields + b"\r\n" + coded + b"0\r\n" + trailer + b"\r\n"


def blob(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize(
    ("size", "piece"),
    [(0, 1), (1, 1), (1000, 1), (5000, 7), (40_000, 4096), (300_000, 1000), (MEGABYTE, MEGABYTE), (MEGABYTE, 9999)],
)
def test_it_has_a_length_and_no_coding(serve: Serve, size: int, piece: int) -> None:
    body = blob(size)
    with serve(by_length).client() as client:
        for trailer in (b"", b"X-Trailer: t\r\n"):
            client.send(chunked(body, piece, trailer=trailer) + GET)
            response = client.response()
            assert response.body == body and not response.closes
            assert (response.get("x-length"), response.get("x-rest")) == (str(size), "0")
            assert client.response().get("x-length") == "None"


def test_it_may_come_byte_by_byte_and_be_cut_anywhere(serve: Serve) -> None:
    request = chunked(b"first line\nlast", 4, trailer=b"T: t\r\n")
    with serve(by_length).client() as client:
        client.send_bytewise(request)
        assert client.response().body == b"first line\nlast"
        for cut in range(1, len(request)):
            client.send(request[:cut])
            client.send(request[cut:] + GET)
            assert client.response().body == b"first line\nlast", cut
            assert client.response().body == b""


def test_a_larger_one_streams(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["wsgi.input_terminated"] and "CONTENT_LENGTH" not in environ
        assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"
        data = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [data]

    for size, piece in ((MEGABYTE + 1, 70_000), (3 * MEGABYTE, 3 * MEGABYTE), (MEGABYTE + 10, 1000)):
        with serve(app).client() as client:
            client.send(chunked(blob(size), piece) + chunked(blob(size), piece))
            assert client.response().body == blob(size)
            assert client.response().body == blob(size)


def test_over_tls(serve: Serve, tmp_path: Any) -> None:
    authority = Authority(tmp_path)
    running = serve(by_length, certfile=authority.issue("localhost"))
    with TlsClient(running.addresses[0], authority.trust()) as client:
        for size in (0, 10, 300_000):
            client.send(chunked(blob(size), 5000))
            assert client.response().body == blob(size)


def test_nobody_runs_before_it_is_complete(serve: Serve) -> None:
    running = serve(by_length)
    with running.client() as client:
        client.send(HEAD + b"\r\n5\r\nhello\r\n")
        eventually(lambda: running.count(lib.SS_COUNT_BUFFERS) == 1, "it has come")
        assert running.server.active == running.count(lib.SS_COUNT_REQUESTS) == 0
        running.verify()
        client.send(b"0\r\n\r\n")
        assert client.response().body == b"hello"


def test_who_waits_for_100_continue_is_invited_at_once(serve: Serve) -> None:
    with serve(by_length).client() as client:
        client.send(HEAD + b"Expect: 100-continue\r\n\r\n")
        assert client.response().status == 100
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        response = client.response()
        assert (response.body, response.closes) == (b"hello", False)


@pytest.mark.parametrize(
    ("rest", "status"),
    [(b"5\r\nhel", 400), (b"5\r\nhello\r\n", 400), (b"zz\r\n", 400), (b"0\r\nHost: h\r\n\r\n", 400)],
)
def test_a_broken_one_is_a_quiet_400(serve: Serve, caplog: Any, rest: bytes, status: int) -> None:
    called: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        called.append(environ["PATH_INFO"])
        return by_length(environ, start_response)

    caplog.set_level(logging.INFO, "streamserve.wsgi")
    log = io.StringIO()
    with serve(app, log=log).client() as client:
        client.send(HEAD + b"\r\n" + rest)
        client.finish()
        response = client.response()
        assert (response.status, response.closes) == (status, True) and client.ended()
    eventually(lambda: '" 400 ' in log.getvalue(), "a line of the access log")
    assert not called and not [record for record in caplog.records if record.exc_info]


def test_one_over_the_limit_is_413(serve: Serve) -> None:
    running = serve(by_length, max_body_bytes=1000)
    assert running.ask(chunked(blob(1000), 300)).status == 200
    assert running.ask(chunked(blob(1001), 300)).status == 413
    with running.client() as client:
        client.send(HEAD + b"\r\n" + b"3e9\r\n" + b"x" * 1001)
        assert client.response().status == 413


@pytest.mark.parametrize("buffered", [0, 2000], ids=["streamed", "awaited"])
@pytest.mark.parametrize("rest", [b"3e9\r\n", b"1\r\nx\r\n3e8\r\n", b"1\r\nx\r\nffffffffffff\r\nabc"])
def test_a_chunk_that_says_it_is_too_large_is_413_before_its_bytes_come(
    serve: Serve, buffered: int, rest: bytes
) -> None:
    def read(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        data = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [data]

    with serve(read, max_body_bytes=1000, buffered_body=buffered, body_timeout=0).client() as client:
        client.send(HEAD + b"\r\n" + rest)
        assert client.response().status == 413


def test_an_unread_one_keeps_the_connection(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("401 Unauthorized", [])
        return [b"no"]

    with serve(app).client() as client:
        for size in (10, MEGABYTE):
            client.send(chunked(blob(size), 65536))
            response = client.response()
            assert (response.status, response.closes) == (401, False)


def test_those_that_drip_hold_what_they_sent(serve: Serve) -> None:
    running = serve(by_length)
    clients = [running.client() for _ in range(50)]
    for client in clients:
        client.send(HEAD + b"\r\n" + b"1\r\nx\r\n" * 100)
    eventually(lambda: 0 < running.count(lib.SS_COUNT_HELD_BYTES) <= 50 * 512, "blocks of their size")
    for client in clients:
        client.send(b"0\r\n\r\n")
        assert client.response().body == b"x" * 100
    running.verify()


def test_those_that_are_large_hold_half_of_the_memory_at_most(serve: Serve) -> None:
    running = serve(by_length, max_buffer_bytes=4 * MEGABYTE)
    clients: list[Client] = []
    statuses = set()
    for _ in range(20):
        clients.append(running.client())
        clients[-1].send(HEAD + b"\r\n80000\r\n" + b"x" * 500_000)
    for client in clients[10:]:
        client.socket.settimeout(1)
        try:
            statuses.add(client.response().status)
        except TimeoutError:
            continue
    assert statuses == {503}
    assert running.count(lib.SS_COUNT_HELD_BYTES) < 4 * MEGABYTE
    sized = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    assert running.ask(sized).body == b"hello", "others are served"
    running.verify()
