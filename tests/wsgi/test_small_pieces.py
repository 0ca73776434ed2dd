"""Small pieces of one turn share segments, and none is held back while the application makes the next (PEP 3333).

When exactly they wait is told by tests/core/test_pieces.py, where the clock is held.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve.sync.event import Event
from tests.support.client import Client
from tests.support.server import PATIENCE
from tests.wsgi.conftest import Serve

CERTIFICATE = str(Path(__file__).parents[1] / "support" / "localhost.pem")
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
PIECE = b"x" * 100
PIECES = 1000
DATA_SEGMENTS_IN = 152  # of struct tcp_info


def segments(client: Client) -> int:
    """How many segments with data the client's kernel has received."""
    info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("I", info, DATA_SEGMENTS_IN)[0])


def yielded(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    return (PIECE for _ in range(PIECES))


def written(environ: dict[str, Any], start_response: Any) -> Any:
    write = start_response("200 OK", [])
    for _ in range(PIECES):
        write(PIECE)
    return []


def with_length(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", str(PIECES * len(PIECE)))])
    return (PIECE for _ in range(PIECES))


@pytest.mark.parametrize("app", [yielded, written, with_length])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_small_pieces_share_segments(serve: Serve, app: Any, version: bytes) -> None:
    with serve(app).client() as client:
        client.send(GET.replace(b"1.1", version))
        assert client.response().body == PIECE * PIECES
        assert segments(client) <= PIECES / 4  # alone they were as many as the pieces


def test_pieces_of_all_sizes_stay_in_order(serve: Serve) -> None:
    sizes = [1, 100, 4096, 4097, 3, 70_000, 1, 2, 20_481, 5, 300_000, 7]
    pieces = [bytes([65 + at]) * size for at, size in enumerate(sizes)] * 20

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter(pieces)

    with serve(app).client() as client:
        for _ in range(2):
            client.send(GET)
            assert client.response().body == b"".join(pieces)


def block(seen: threading.Event) -> None:
    """Holds the thread, and with it the loop."""
    assert seen.wait(PATIENCE)


def switch(seen: threading.Event) -> None:
    """Waits as a greenlet does."""
    done = Event()
    threading.Thread(target=lambda: (seen.wait(PATIENCE), done.set())).start()
    assert done.wait(PATIENCE)


def waiting(wait: Callable[[threading.Event], None], seen: threading.Event, count: int) -> Any:
    """Some pieces, and one more when they were seen."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(count + 1))])
        for _ in range(count):
            yield b"x"
        wait(seen)
        yield b"y"

    return app


@pytest.mark.parametrize("wait", [block, switch])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("encrypted", [False, True])
def test_no_piece_waits_for_the_next(
    serve: Serve, wait: Callable[[threading.Event], None], count: int, encrypted: bool
) -> None:
    seen = threading.Event()
    running = serve(waiting(wait, seen, count), **({"certfile": CERTIFICATE} if encrypted else {}))
    with running.client() as client:
        if encrypted:
            client.socket = ssl._create_unverified_context().wrap_socket(client.socket)
        client.send(GET)
        client.head()
        assert client.exactly(count) == b"x" * count
        seen.set()
        assert client.exactly(1) == b"y"
