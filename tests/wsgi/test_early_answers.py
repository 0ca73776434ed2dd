"""An answer that comes before the upload has ended arrives: the rest is dropped, and no reset destroys it."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import eventually
from tests.wsgi.conftest import Serve

MEGABYTE = 1 << 20
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def denies(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers without a look at the body."""
    start_response("401 Unauthorized", [])
    return [b"no"]


def denies_in_pieces(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("401 Unauthorized", [])
    return iter([b"n", b"o"])


def sized(length: int, fields: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n" % (fields, length)


CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def as_it_is(data: bytes) -> bytes:
    return data


UPLOADS: list[tuple[bytes, Callable[[bytes], bytes], bytes]] = [
    (sized(10 * MEGABYTE), as_it_is, b""),
    (CHUNKED, chunk, b"0\r\n\r\n"),
]


@pytest.mark.parametrize("app", [denies, denies_in_pieces])
@pytest.mark.parametrize("upload", UPLOADS, ids=["sized", "chunked"])
def test_a_client_that_sends_all_before_it_reads_gets_the_answer(serve: Serve, upload: Any, app: Any) -> None:
    first, coded, end = upload
    with serve(app).client() as client:
        client.send(first)
        for _ in range(10):
            client.send(coded(b"x" * MEGABYTE))
        client.send(end)
        response = client.response()
        assert (response.status, response.body, response.closes) == (401, b"no", True)
        assert client.ended()


@pytest.mark.parametrize("upload", UPLOADS, ids=["sized", "chunked"])
def test_an_upload_may_go_on_for_long(serve: Serve, upload: Any) -> None:
    first, coded, _ = upload
    with serve(denies).client() as client:
        client.send(first + coded(b"x" * 1_500_000))
        assert client.response().status == 401
        started = time.monotonic()
        client.socket.settimeout(0.1)
        while time.monotonic() - started < 2.5:
            client.send(coded(b"x" * 1000))
            assert client.ended(), "our side is shut, in order"
            time.sleep(0.1)


@pytest.mark.parametrize("size", [10, 200_000])
def test_what_can_be_awaited_keeps_the_connection(serve: Serve, size: int) -> None:
    with serve(denies).client() as client:
        for request in (sized(size), CHUNKED):
            client.send(request + (chunk(b"x" * size) + b"0\r\n\r\n" if request is CHUNKED else b"x" * size))
            response = client.response()
            assert (response.status, response.closes) == (401, False)


def test_a_body_over_the_limit_is_413_also_for_who_reads_last(serve: Serve) -> None:
    with serve(denies, max_body_bytes=1000).client() as client:
        client.send(sized(10 * MEGABYTE))
        for _ in range(10):
            client.send(b"x" * MEGABYTE)
        assert client.response().status == 413
        assert client.ended()


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
def test_a_large_answer_arrives_at_who_sends_all_first(serve: Serve, tmp_path: Path, fields: bytes) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"denied" * MEGABYTE)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("401 Unauthorized", [])
        return environ["wsgi.file_wrapper"](page.open("rb"))  # one piece for the core, and more than the kernel takes

    with serve(app).client(receive_buffer=4096) as client:
        client.send(sized(20 * MEGABYTE, fields))
        for _ in range(20):
            client.send(b"x" * MEGABYTE)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEGABYTE)
        assert client.response().body == page.read_bytes()


def test_a_pause_ends_it(serve: Serve) -> None:
    running = serve(denies, discard_timeout=0.1)
    client = running.client()
    client.send(sized(10 * MEGABYTE) + b"x" * 1000)
    assert client.response().status == 401
    eventually(lambda: not running.left_behind(), "the pause was too long")


@pytest.mark.parametrize("size", [100_000, 10 * MEGABYTE])
def test_it_ends_after_a_while_whatever_comes(serve: Serve, size: int) -> None:
    running = serve(denies, discard_total=0.3)
    client = running.client()
    client.send(sized(size) + b"x" * 1000)
    assert client.response().status == 401
    gone = threading.Event()

    def drip() -> None:
        try:
            while True:
                client.send(b"x")
                time.sleep(0.02)
        except OSError:
            gone.set()

    thread = threading.Thread(target=drip)
    thread.start()
    assert gone.wait(60)
    thread.join()
    eventually(lambda: not running.left_behind(), "it is over")


def test_garbage_is_dropped_only_briefly(serve: Serve) -> None:
    running = serve(denies)
    client = running.client()
    client.send(b"BAD\r\n\r\n")
    assert client.response().status == 400
    with pytest.raises(OSError):
        for _ in range(100):
            client.send(b"x" * MEGABYTE)


def test_a_stop_lets_the_upload_end(serve: Serve) -> None:
    running = serve(denies)
    client = running.client()
    client.send(sized(2 * MEGABYTE) + b"x" * 1000)
    eventually(lambda: running.server.active == 0 and client._more(), "the answer came")
    stopped = running.stop()
    for _ in range(20):
        client.send(b"x" * 100_000)
        time.sleep(0.01)
    client.send(b"x" * (2 * MEGABYTE - 2_001_000))
    assert client.response().status == 401
    client.close()
    assert stopped.result(60) == 0
