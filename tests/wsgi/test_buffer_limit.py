"""What all connections together hold is bounded by max_buffer_bytes: beyond it nothing new begins."""

import contextlib
import logging
from typing import Any

import pytest

from streamserve.core import lib
from tests.support.client import Client
from tests.support.logs import awaited_lines
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
MOST = 1 << 20
READ_BUFFER = 16384
PLACES = MOST // READ_BUFFER  # connections that may hold a whole read buffer
FULL = b"the buffers of all connections together are at their limit\n"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 15_000
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n" + b"x" * 15_000


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"%d" % len(environ["wsgi.input"].read())]


def endless(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/endless":
        return iter(lambda: b"x" * 65536, b"")
    return [b"short"]


def refused(client: Client) -> bool:
    """Whether the client is answered as it should be when all is full."""
    response = client.response()
    return (response.status, response.body, response.get("retry-after"), response.closes) == (503, FULL, "1", True)


def held(running: Running) -> int:
    return running.count(lib.SS_COUNT_HELD_BYTES)


@pytest.mark.parametrize(("half", "rest"), [(HALF_A_HEAD, b"\r\n\r\n"), (HALF_A_BODY, b"x" * 1000)])
def test_half_requests_beyond_the_limit_are_refused_and_the_others_finish(
    serve: Serve, half: bytes, rest: bytes
) -> None:
    running = serve(echo, max_buffer_bytes=MOST)
    clients = [running.client() for _ in range(PLACES)]
    for number, client in enumerate(clients, 1):
        client.send(half)
        eventually(lambda: held(running) == number * READ_BUFFER, "it was read")  # noqa: B023
    for _ in range(20):
        with running.client() as late:
            late.send(half)
            assert refused(late)
    assert held(running) == MOST
    for client in clients:
        client.send(rest)
        assert client.response().status == 200
    assert held(running) == 0
    assert running.ask(GET).status == 200


def test_many_at_once_hold_no_more_than_the_limit(serve: Serve) -> None:
    running = serve(echo, max_buffer_bytes=MOST)
    clients = [running.client() for _ in range(3 * PLACES)]
    for client in clients:
        client.send(HALF_A_HEAD)
    statuses = []
    for client in clients:
        assert held(running) <= MOST
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is refused already
            client.send(b"\r\n\r\n")
        statuses.append(client.response().status)
    assert set(statuses) == {200, 503}


def test_responses_that_nobody_takes_count_too(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running = serve(endless, max_buffer_bytes=MOST)
    slow = []
    while held(running) <= MOST:
        client = running.client(receive_buffer=4096)
        client.send(GET.replace(b"/ ", b"/endless ", 1))
        slow.append(client)
        eventually(lambda: len(running.waiters()) == len(slow), "its response waits for it")
    with running.client() as late:
        late.send(GET)
        assert refused(late)
    words = FULL.decode().strip()
    assert awaited_lines(caplog) == [f"127.0.0.1 refused with 503: {words} (max_buffer_bytes={MOST})"]
    assert caplog.records[0].levelname == "WARNING"
    for client in slow:
        client.reset()
    eventually(lambda: held(running) == 0, "they are forgotten")
    assert running.ask(GET).body == b"short"


def test_without_a_limit_nothing_is_refused(serve: Serve) -> None:
    running = serve(echo, max_buffer_bytes=0)
    clients = [running.client() for _ in range(2 * PLACES)]
    for client in clients:
        client.send(HALF_A_HEAD)
    eventually(lambda: held(running) == 2 * MOST, "all are read")
    for client in clients:
        client.send(b"\r\n\r\n")
        assert client.response().status == 200
