"""Deadlines of head, body, writing and idling: point 38 of the promises."""

import time
from typing import Any

import pytest

from streamserve.core import lib
from tests.support.client import Truncated
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SHORT = 0.1  # seconds


def read(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    data = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [data]


def endless(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    while True:
        yield b"x" * 65536


def test_a_head_that_does_not_end_is_408(serve: Serve) -> None:
    client = serve(read, head_timeout=10 * SHORT).client()
    client.send(GET[:-2])
    response = client.response()
    assert (response.status, response.closes) == (408, True) and client.ended()


def test_the_heads_deadline_is_absolute(serve: Serve) -> None:
    """A byte now and then does not move it."""
    client = serve(read, head_timeout=10 * SHORT).client()
    started = time.monotonic()
    client.socket.settimeout(SHORT / 4)
    client.send(b"GET / HTTP/1.1\r\nX: ")
    while time.monotonic() - started < 60:
        try:
            if client._more():
                break
        except TimeoutError:
            client.send(b"y")
    client.socket.settimeout(60)
    assert client.response().status == 408


def test_a_connection_that_says_nothing_is_closed_without_a_word(serve: Serve) -> None:
    client = serve(read, head_timeout=SHORT).client()
    assert client.rest() == b""


def test_an_idle_connection_is_closed_without_a_word(serve: Serve) -> None:
    client = serve(read, keep_alive_timeout=10 * SHORT).client()
    for _ in range(2):
        client.send(GET)
        assert client.response().status == 200
    assert client.rest() == b""


def test_the_deadline_of_the_next_head_begins_with_its_first_byte(serve: Serve) -> None:
    client = serve(read, head_timeout=SHORT, keep_alive_timeout=60).client()
    client.send(GET)
    client.response()
    client.send(b"G")
    assert client.response().status == 408


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nsmall",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nlarge",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nchunk",
    ],
)
def test_a_body_that_makes_no_progress_is_408(serve: Serve, request_bytes: bytes) -> None:
    client = serve(read, body_timeout=SHORT).client()
    client.send(request_bytes)
    response = client.response()
    assert (response.status, response.closes) == (408, True) and client.ended()


def test_the_bodys_deadline_is_one_of_progress(serve: Serve) -> None:
    """The whole takes longer than the deadline, each step does not."""
    running = serve(read, body_timeout=8 * SHORT)
    client = running.client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\n\r\n")
    started = time.monotonic()
    client.socket.settimeout(SHORT)
    for _ in range(9):
        client.send(b"x" * 4000)
        with pytest.raises(TimeoutError):  # nothing comes, and that is the pace
            client.socket.recv(1)
    client.send(b"x" * 4000)
    assert time.monotonic() - started > 8 * SHORT
    client.socket.settimeout(60)
    assert len(client.response().body) == 40_000


def test_an_application_that_does_not_read_is_not_the_clients_fault(serve: Serve) -> None:
    """The deadline runs only while somebody waits for the body."""
    from streamserve.loop.joining import sleep

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sleep(3 * SHORT)
        return read(environ, start_response)

    client = serve(app, body_timeout=SHORT).client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
    assert len(client.response().body) == 20_000


def test_a_client_that_takes_nothing_is_dropped(serve: Serve) -> None:
    running = serve(endless, write_timeout=SHORT)
    client = running.client(receive_buffer=4096)
    client.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "accepted")
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the write deadline passed")
    assert running.server.active == 0
    with pytest.raises((Truncated, ConnectionResetError)):
        client.response()


def test_a_response_that_waits_for_a_stalled_client_is_dropped(serve: Serve) -> None:
    """All of it is in the core's hands; nothing of the application runs any more."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * 60_000]

    running = serve(app, write_timeout=2 * SHORT)
    client = running.client(receive_buffer=2048)
    client.send(GET * 200)
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "accepted")
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the write deadline passed")


def test_more_output_does_not_extend_the_write_deadline(serve: Serve) -> None:
    """An application that goes on producing is no progress of the client."""
    from streamserve.loop.joining import sleep

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        while not running._counts()[lib.SS_COUNT_QUEUED_BYTES]:
            yield b"x" * 1000
        while True:  # the kernel takes no more; far from the high water
            sleep(SHORT / 5)
            yield b"tick"

    running = serve(app, write_timeout=3 * SHORT)
    client = running.client(receive_buffer=2048)
    client.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "accepted")
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the write deadline passed")


def test_a_slow_client_that_takes_something_is_served(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(65536 * 64))])
        return iter([b"x" * 65536] * 64)

    running = serve(app, write_timeout=20 * SHORT)
    client = running.client(receive_buffer=65536)
    client.send(GET)
    client.head()
    total = len(client.buffer)
    while total < 65536 * 64:
        data = client.socket.recv(131072)
        assert data, "it was dropped though it made progress"
        total += len(data)
    assert total == 65536 * 64


def test_what_a_client_that_takes_nothing_was_sent_is_closed(serve: Serve) -> None:
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Any:
            return iter(lambda: b"x" * 65536, b"")

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body()

    client = serve(app, write_timeout=SHORT).client(receive_buffer=4096)
    client.send(GET)
    eventually(lambda: closed, "the write deadline passed")
    assert closed == [True]


def test_the_default_deadlines_reach_the_core(serve: Serve) -> None:
    config = serve(read).server._core_config()
    seconds = 10**9
    assert (config.head_timeout, config.body_timeout) == (15 * seconds, 30 * seconds)
    assert (config.write_timeout, config.idle_timeout) == (60 * seconds, 75 * seconds)
    assert config.handshake_timeout == 10 * seconds


def test_deadlines_can_be_switched_off(serve: Serve) -> None:
    running = serve(read, head_timeout=0, body_timeout=0, write_timeout=0, keep_alive_timeout=0)
    client = running.client()
    client.send(GET)
    assert client.response().status == 200
    client.send(GET[:5])
    client.send(GET[5:])
    assert client.response().status == 200


def test_the_idle_deadline_begins_with_the_response_not_with_the_request(serve: Serve) -> None:
    """A handler that blocks the loop for longer than the deadline leaves the client its whole time."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        time.sleep(1.5 if environ["PATH_INFO"] == "/slow" else 0)
        start_response("200 OK", [])
        return [b"done"]

    client = serve(app, keep_alive_timeout=1).client()
    client.send(GET.replace(b"/ ", b"/slow ", 1))
    assert client.response().body == b"done"
    client.socket.settimeout(0.15)
    with pytest.raises(TimeoutError):  # it is not ended
        client._more()
    client.socket.settimeout(60)
    client.send(GET)
    assert client.response().body == b"done"
