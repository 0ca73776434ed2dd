"""Slow clients in numbers cost what they sent and what waits for them, not a read buffer each: counted, not timed."""

import socket
from typing import Any

import pytest

from streamserve.core import lib
from tests.support.client import Client
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

MANY = 200
PAGE = b"x" * 8192
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LINE = b"GET / HTTP/1.1\r\nHost: h\r\n"
SLOW = {
    "request line": (b"GET /long", b"x"),
    "head": (LINE + b"X-Slow: ", b"x"),
    "body": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8192\r\n\r\n", b"x"),
    "next head": (GET + b"GET /next", b"x"),
}


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [PAGE] if environ["PATH_INFO"] == "/page" else [b"served"]


@pytest.mark.parametrize("slow", SLOW)
def test_bytes_that_drip_are_held_in_blocks_of_their_size(serve: Serve, slow: str) -> None:
    running = serve(app)
    begin, drip = SLOW[slow]
    clients = [running.client() for _ in range(MANY)]
    for client in clients:
        client.send(begin)
    for _ in range(5):
        for client in clients:
            client.send(drip)
    eventually(lambda: running.count(lib.SS_COUNT_BUFFERS) == MANY, "each has sent something")
    eventually(lambda: running.count(lib.SS_COUNT_HELD_BYTES) <= MANY * 512, "blocks of their size")
    assert running.ask(GET).body == b"served"
    running.verify()


def test_silent_clients_hold_no_buffer(serve: Serve) -> None:
    running = serve(app)
    clients = [running.client() for _ in range(MANY)]
    for client in clients[::2]:
        client.send(GET)
        client.response()
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == MANY, "all are there")
    assert running.count(lib.SS_COUNT_BUFFERS) == running.count(lib.SS_COUNT_HELD_BYTES) == 0


def test_a_reader_holds_the_rest_of_one_response_and_the_requests_that_it_sent(serve: Serve) -> None:
    running = serve(app)
    request = b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n"
    asked = 100
    clients = [slow_reader(running) for _ in range(MANY // 4)]
    for client in clients:
        client.send(request * asked)
    eventually(lambda: running.count(lib.SS_COUNT_BUFFERS) == len(clients), "each waits with requests behind")
    bound = len(PAGE) + 512 + 2 * asked * len(request)
    eventually(lambda: 0 < running.count(lib.SS_COUNT_HELD_BYTES) <= len(clients) * bound, "what they hold")
    eventually(lambda: running.server.active == 0, "no greenlet is held")
    assert running.ask(GET).body == b"served"
    running.verify()


def slow_reader(running: Running) -> Client:
    """A client whose kernel takes little, like one that is far away."""
    client = running.client()
    client.close()
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
    client.socket.settimeout(60)
    client.socket.connect(running.addresses[0])
    return client
