"""Bad input on the socket: one answer, the end, and nothing of it is parsed. Points 33, 38 and 48."""

import logging
import random
import time
from typing import Any

import pytest

from streamserve.core import lib
from tests.support.logs import awaited_lines, no_tracebacks
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

GET = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
BAD = {
    b"GET / HTTP/1.1\nHost: h\n\n": 400,
    b"GET / HTTP/1.1\r\nHost: h\n\r\n": 400,
    b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n": 400,
    b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n": 400,
    b"GET /\r\n\r\n": 400,
    b"G\x80T / HTTP/1.1\r\nHost: h\r\n\r\n": 400,
    b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n": 400,
    b"GET /#f HTTP/1.1\r\nHost: h\r\n\r\n": 400,
    b"GET x HTTP/1.1\r\nHost: h\r\n\r\n": 400,
    b"GET / HTTP/2.0\r\nHost: h\r\n\r\n": 505,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : h\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: h\r\n\xe9: x\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello": 400,
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello": 400,
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n": 400,
    b"\xff" * 64 + b"\n": 400,
}


class Counting:
    """An application that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.calls += 1
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]


def refused(running: Running, data: bytes, status: int, bytewise: bool = False, before: int = 0) -> None:
    """Sends the bytes: `before` good answers, then one refusal, then the end."""
    client = running.client()
    try:
        if bytewise:
            client.send_bytewise(data)
        else:
            client.send(data)
    except (ConnectionResetError, BrokenPipeError):
        assert bytewise, "the server reads on for a while after a refusal"
    for _ in range(before):
        assert client.response().status == 200
    response = client.response()
    assert (response.status, response.closes) == (status, True)
    assert client.ended()
    client.close()


@pytest.mark.parametrize("follow", [b"", GET, GET * 50])
def test_one_answer_and_the_end(serve: Serve, follow: bytes) -> None:
    app = Counting()
    running = serve(app)
    for data, status in BAD.items():
        refused(running, data + follow, status)
    assert app.calls == 0


def test_bad_requests_byte_by_byte(serve: Serve) -> None:
    app = Counting()
    running = serve(app)
    for data, status in BAD.items():
        refused(running, data, status, bytewise=True)
    assert app.calls == 0


def test_a_bad_request_behind_good_ones(serve: Serve) -> None:
    app = Counting()
    running = serve(app)
    for data, status in BAD.items():
        if not data.startswith(b"\r\n"):
            refused(running, GET * 3 + data + GET, status, before=3)
    assert app.calls == 3 * (len(BAD) - 1)


def test_limits_of_the_head(serve: Serve) -> None:
    app = Counting()
    running = serve(app, max_request_line=200, max_header_bytes=1000, max_header_fields=10)
    line, host = b"GET /%b HTTP/1.1\r\n", b"Host: h\r\n"
    fitting = b"x" * (200 - len(b"GET / HTTP/1.1"))
    assert running.ask(line % fitting + host + b"\r\n").status == 200
    refused(running, line % (fitting + b"x") + host + b"\r\n", 414)
    refused(running, b"GET /" + b"x" * 5000, 414)
    assert running.ask(line % b"" + host + b"X: y\r\n" * 9 + b"\r\n").status == 200
    refused(running, line % b"" + host + b"X: y\r\n" * 10 + b"\r\n", 431)
    rest = 1000 - len(line % b"" + host + b"X: \r\n\r\n")
    for _ in range(2):
        assert running.ask(line % b"" + host + b"X: " + b"y" * rest + b"\r\n\r\n").status == 200
    refused(running, line % b"" + host + b"X: " + b"y" * (rest + 1) + b"\r\n\r\n", 431)
    refused(running, line % b"" + host + b"X: " + b"y" * 5000, 431)
    assert app.calls == 4


def test_limits_of_the_head_by_default(serve: Serve) -> None:
    running = serve(Counting())
    line, host = b"GET /%b HTTP/1.1\r\n", b"Host: h\r\n"
    fitting = b"x" * (8192 - len(b"GET / HTTP/1.1"))
    assert running.ask(line % fitting + host + b"\r\n").status == 200
    refused(running, line % (fitting + b"x") + host + b"\r\n", 414)
    assert running.ask(line % b"" + host + b"X: y\r\n" * 99 + b"\r\n").status == 200
    refused(running, line % b"" + host + b"X: y\r\n" * 100 + b"\r\n", 431)
    rest = b"y" * (65536 - len(line % b"" + host + b"X: \r\n\r\n"))
    assert running.ask(line % b"" + host + b"X: " + rest + b"\r\n\r\n").status == 200
    refused(running, line % b"" + host + b"X: " + rest + b"y\r\n\r\n", 431)


def test_a_remembered_head_is_still_measured_with_its_line(serve: Serve) -> None:
    running = serve(Counting(), max_request_line=500, max_header_bytes=600)
    block = b"Host: h\r\nX: " + b"y" * 300 + b"\r\n\r\n"
    with running.client() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\n" + block)
            assert client.response().status == 200
        client.send(b"GET /" + b"z" * 300 + b" HTTP/1.1\r\n" + block)
        assert client.response().status == 431 and client.ended()


def test_the_answer_survives_what_the_client_still_sends(serve: Serve) -> None:
    """Closing with unread input would send RST, which destroys the answer on its way."""
    running = serve(Counting())
    for _ in range(10):
        client = running.client()
        client.send(b"BAD\r\n\r\n" + b"x" * 300_000)
        response = client.response()
        assert response.status == 400
        assert client.socket.recv(1) == b"", "an orderly end, not a reset"


def test_a_refused_client_that_never_stops_is_cut_off(serve: Serve) -> None:
    running = serve(Counting())
    client = running.client()
    client.send(b"BAD\r\n\r\n")

    def send_on() -> bool:
        try:
            client.socket.send(b"x" * 65536)
            return False
        except OSError:
            return True

    eventually(send_on, "the server closed the connection")
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "nothing is left of it")


def test_a_refused_client_that_stays_silent_is_cut_off(serve: Serve) -> None:
    running = serve(Counting())
    client = running.client()
    client.send(b"BAD\r\n\r\n")
    assert client.response().status == 400
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the linger deadline passed")


def test_a_flood_of_bad_requests_is_not_a_flood_of_log_lines(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running = serve(Counting())
    started = time.monotonic()
    for _ in range(100):
        refused(running, b"BAD\r\n\r\n", 400)
    lines = [line for line in awaited_lines(caplog) if line.startswith("127.0.0.1 refused with 400")]
    assert 1 <= len(lines) <= 2 + (time.monotonic() - started)
    assert no_tracebacks(caplog, running)


def test_eight_bit_bytes_anywhere_are_answered_or_refused(serve: Serve) -> None:
    app = Counting()
    running = serve(app)
    request = b"POST /p?q HTTP/1.1\r\nHost: h\r\nX-Field: v\r\n"
    request += b"Transfer-Encoding: chunked\r\n\r\n2;e=1\r\nab\r\n0\r\nT: t\r\n\r\n"
    for at in range(len(request)):
        for byte in (b"\x80", b"\xff", b"\0", b"\r"):
            client = running.client()
            client.send(request[:at] + byte + request[at + 1 :])
            client.finish()
            data = client.rest()
            client.close()
            assert data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 ")) or data == b"", (at, byte, data)
    assert running.ask(GET).status == 200


def test_random_bytes_do_no_harm(serve: Serve) -> None:
    chance = random.Random(7)
    running = serve(Counting())
    for _ in range(150):
        client = running.client()
        client.send(chance.randbytes(chance.randrange(1, 3000)))
        client.finish()
        data = client.rest()
        client.close()
        assert data == b"" or data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert running.ask(GET).status == 200
