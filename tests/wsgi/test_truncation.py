"""A response that was cut never looks whole, whatever cuts it: point 52 of the promises."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.loop.joining import sleep
from tests.support.client import Client
from tests.support.process import ServedCommand
from tests.support.server import Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

OLD = b"GET / HTTP/1.0\r\n\r\n"
NEW = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CUTS: dict[str, Callable[[Running], Any]] = {
    "graceful timeout": lambda running: running.stop(0.01),
    "at once": lambda running: running.stop(0),
}


class Halfway:
    """Sends half of its body and waits."""

    def __init__(self, fails: bool = False) -> None:
        self.go_on = threading.Event()
        self.fails = fails

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return self.pieces()

    def pieces(self) -> Any:
        yield b"x" * 25_000
        while not self.go_on.is_set():
            sleep(0.002)
        if self.fails:
            raise ValueError("in the middle")
        yield b"x" * 35_000


def half(client: Client, request: bytes) -> None:
    client.send(request)
    client.head()
    while len(client.buffer) < 25_000:
        assert client._more()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("request_head", [OLD, NEW])
def test_a_stop_shows(serve: Serve, cut: str, request_head: bytes) -> None:
    app = Halfway()
    running = serve(app)
    with running.client() as client:
        half(client, request_head)
        CUTS[cut](running)
        ends_badly(client, request_head)
    app.go_on.set()
    running.join()


def ends_badly(client: Client, request: bytes) -> None:
    """By a reset, or where the body is chunked without its last chunk."""
    if request is OLD:
        with pytest.raises(ConnectionResetError):
            client.rest()
    else:
        try:
            assert not client.rest().endswith(b"0\r\n\r\n")
        except ConnectionResetError:
            return


@pytest.mark.parametrize("request_head", [OLD, NEW])
def test_an_error_shows(serve: Serve, request_head: bytes) -> None:
    app = Halfway(fails=True)
    with serve(app).client() as client:
        half(client, request_head)
        app.go_on.set()
        ends_badly(client, request_head)


def streams(running: list[Running], environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    return iter([b"x" * 65536] * 1000)


def writes(running: list[Running], environ: dict[str, Any], start_response: Any) -> Any:
    """Is done while a part of its response waits in the core."""
    write = start_response("200 OK", [])
    while not running[0]._counts()[lib.SS_COUNT_QUEUED_BYTES]:
        write(b"x" * 1000)
    return [b"last"]


@pytest.mark.parametrize("app", [streams, writes])
def test_a_write_deadline_shows(serve: Serve, app: Any) -> None:
    servers: list[Running] = []
    running = serve(partial(app, servers), write_timeout=0.1)
    servers.append(running)
    with running.client(receive_buffer=4096) as client:
        client.send(OLD)
        eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "accepted")
        eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the write deadline passed")
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_a_whole_response_ends_in_order(serve: Serve) -> None:
    app = Halfway()
    app.go_on.set()
    with serve(app).client() as client:
        client.send(OLD)
        response = client.response()
        assert response.to_the_end and len(response.body) == 60_000


def test_over_tls(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    app = Halfway()
    running = serve(app, certfile=authority.issue("localhost"))
    with TlsClient(running.addresses[0], authority.trust()) as client:
        half(client, OLD)
        running.stop(0.01)
        with pytest.raises(OSError):
            client.rest()
    app.go_on.set()
    running.join()


MODULE = """
import time
def app(environ, start_response):
    start_response("200 OK", [])
    yield b"x" * 25000
    time.sleep(60)
"""


@pytest.mark.parametrize("signals", [(signal.SIGKILL,), (signal.SIGTERM, signal.SIGTERM)], ids=["killed", "twice"])
def test_the_end_of_the_process_shows(tmp_path: Path, signals: tuple[signal.Signals, ...]) -> None:
    (tmp_path / "half.py").write_text(MODULE)
    server = ServedCommand("half:app", cwd=tmp_path)
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with Client((host, int(port))) as client:
        half(client, OLD)
        for number in signals:
            os.kill(server.process.pid, number)
            if number is signal.SIGTERM and not server.stderr.count("second"):
                eventually(lambda: "stop" in server.stderr, "it stops")
        ends_badly(client, OLD)
    server.process.wait(60)
