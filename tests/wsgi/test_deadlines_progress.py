"""Deadlines of what goes on: bodies have a least rate, a response that is taken slowly is progress, waiting ends."""

import socket
import threading
import time
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.loop.joining import sleep
from tests.support.client import Client
from tests.support.server import Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SMALL, LARGE = (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size for size in (10_000, 100_000))
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    data = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [b"%d" % len(data)]


def drips(client: Client, drop: bytes, pause: float, seconds: float) -> bool:
    """Sends a drop again and again; False: an answer came meanwhile."""
    client.socket.settimeout(pause)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.send(drop)
        try:
            client._more()
        except TimeoutError:
            continue
        client.socket.settimeout(60)
        return False
    client.socket.settimeout(60)
    return True


# ---- bodies


@pytest.mark.parametrize(("first", "drop"), [(SMALL, b"x"), (LARGE, b"x"), (CHUNKED, b"1\r\nx\r\n")])
def test_a_body_that_drips_is_408(serve: Serve, first: bytes, drop: bytes) -> None:
    running = serve(read, body_timeout=0.5)
    with running.client() as client:
        client.send(first)
        assert not drips(client, drop, 0.02, 30)
        response = client.response()
        assert (response.status, response.closes) == (408, True)
    eventually(lambda: running.server.active == 0, "its greenlet is free")


@pytest.mark.parametrize("first", [SMALL, LARGE])
def test_a_body_that_drips_over_tls_is_408(serve: Serve, tmp_path: Any, first: bytes) -> None:
    authority = Authority(tmp_path)
    running = serve(read, body_timeout=0.5, certfile=authority.issue("localhost"))
    with TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(first)
        assert not drips(client, b"x", 0.05, 30)
        assert client.response().status == 408


@pytest.mark.parametrize(("first", "drop"), [(SMALL, b"x" * 20), (LARGE, b"x" * 20)])
def test_a_body_that_is_slow_but_fast_enough_is_taken(serve: Serve, first: bytes, drop: bytes) -> None:
    with serve(read, body_timeout=0.5, body_rate=100).client() as client:
        client.send(first)
        assert drips(client, drop, 0.05, 2)
        size = 10_000 if first is SMALL else 100_000
        client.send(b"x" * size)
        assert client.response().body == b"%d" % size


def test_without_a_rate_a_byte_now_and_then_is_enough(serve: Serve) -> None:
    with serve(read, body_timeout=0.4, body_rate=0).client() as client:
        client.send(LARGE)
        assert drips(client, b"x", 0.05, 1.5)


def test_the_application_may_take_its_time(serve: Serve) -> None:
    """Bytes that came while nobody read them are no fault of the client's."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"]
        total = 0
        while data := body.read(10_000):
            total += len(data)
            sleep(0.1)
        start_response("200 OK", [])
        return [b"%d" % total]

    with serve(app, body_timeout=0.3).client() as client:
        client.send(LARGE + b"x" * 100_000)
        assert client.response().body == b"100000"


# ---- responses


@pytest.mark.parametrize("size", [1_500_000, 40 << 20])
def test_a_client_that_reads_slowly_but_steadily_is_not_cut(serve: Serve, size: int) -> None:
    """The kernel asks for more only when much of its buffer is free: that may take longer than the deadline."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(size))])
        return iter([b"x" * 65536] * (size // 65536 + 1))

    running = serve(app, write_timeout=1.5, tcp_notsent_lowat=0)
    with far_away(running) as client:
        client.send(GET)
        client.head()
        started = time.monotonic()
        while time.monotonic() - started < 6:
            assert client.socket.recv(4096), "it was cut"
            time.sleep(0.02)
        assert running.count(lib.SS_COUNT_CONNECTIONS) == 1
        client.reset()


def far_away(running: Running) -> Client:
    """A client with the segments of a real network, and little room."""
    client = running.client()
    client.close()
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
    client.socket.settimeout(60)
    client.socket.connect(running.addresses[0])
    return client


# ---- places


class Gate:
    def __init__(self) -> None:
        self.open = threading.Event()
        self.served = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        while not self.open.is_set():
            sleep(0.002)
        self.served += 1
        start_response("200 OK", [])
        return [b"through"]


def occupied(running: Running) -> Client:
    client = running.client()
    client.send(GET)
    eventually(lambda: running.server.active == 1, "the place is taken")
    return client


def test_who_waits_too_long_for_a_place_is_answered_503(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate, concurrency=1, queue=10, queue_timeout=0.2)
    first = occupied(running)
    for _ in range(2):
        waiting = [running.client() for _ in range(3)]
        for client in waiting:
            client.send(GET)
        for client in waiting:
            response = client.response()
            assert (response.status, response.get("retry-after"), response.closes) == (503, "1", True)
    assert not running.server.waiting
    last = running.client()
    last.send(GET)
    eventually(lambda: running.server.waiting, "another one waits")
    gate.open.set()
    assert (first.response().body, last.response().body) == (b"through", b"through")
    assert gate.served == 2


def test_without_a_deadline_it_waits_on(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate, concurrency=1, queue=10, queue_timeout=0)
    first = occupied(running)
    client = running.client()
    client.send(GET)
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client._more()
    client.socket.settimeout(60)
    gate.open.set()
    assert first.response().status == client.response().status == 200
