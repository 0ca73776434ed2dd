"""What a request leaves behind is freed at once: nothing of it is a cycle that waits for the garbage collector.

A cycle of an exception, its traceback and a frame keeps all that the frame held: the environ, the body, the variables
of the application. And the collector clears its members in any order, which an exported memoryview does not survive.
"""

import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytest

import streamserve
from bench.soak import LOADED_APP, make_load
from streamserve.debug.watchdog import Watchdog
from streamserve.errors import ClientGone
from streamserve.gateway.exchange import Exchange
from streamserve.gateway.request_body import BrokenRequestBody, RequestBody
from tests.support.client import Client, Response
from tests.support.process import ServedCommand
from tests.support.program import printed
from tests.wsgi.conftest import Serve

PACKAGE = str(Path(streamserve.__file__).parent)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nwhole"
UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nbegun"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nthis is no size\r\n"
LARGE = 10_000_000  # more than the sockets and the core take


class Fault(Exception):
    """What the applications here raise."""


def ours(thing: Any) -> bool:
    if isinstance(thing, TracebackType):
        thing = thing.tb_frame
    if isinstance(thing, FrameType):
        return thing.f_code.co_filename.startswith(PACKAGE)
    return isinstance(thing, (Exchange, RequestBody, Fault, ClientGone, BrokenRequestBody))


@contextmanager
def garbage() -> Iterator[list[str]]:
    """Gives, at its end, what of this server only the collector could have freed."""
    found: list[str] = []
    gc.collect()
    gc.freeze()  # what was there before is of no interest, and much
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [f"{type(thing).__name__}: {thing!r:.200}" for thing in gc.garbage if ours(thing)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()


def read_all(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    data = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [data]


def answer_500_to_what_is_broken(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    try:
        return read_all(environ, start_response)
    except BrokenRequestBody:
        start_response("500 Broken", [], sys.exc_info())
        return [b"sorry"]


def send_much(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"x" * LARGE]


def write_much(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])(b"x" * LARGE)
    return []


def fail(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise Fault


def fail_late(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    yield b"begun"
    try:
        raise Fault
    except Fault:
        start_response("500 Late", [], sys.exc_info())


def leave_after(request: bytes, count: int) -> Callable[[Client], None]:
    def act(client: Client) -> None:
        client.send(request)
        if count:
            client.exactly(count)
        client.reset()

    return act


def ask(request: bytes) -> Callable[[Client], None]:
    def act(client: Client) -> None:
        client.send(request)
        client.finish()
        client.rest()

    return act


@pytest.mark.parametrize("settings", [{}, {"request_id_header": "X-Request-ID", "early_hints": "on"}])
@pytest.mark.parametrize(
    ("app", "act"),
    [
        (read_all, ask(POST)),
        (read_all, leave_after(UPLOAD, 0)),
        (read_all, ask(UPLOAD)),
        (read_all, ask(CHUNKED)),
        (answer_500_to_what_is_broken, ask(UPLOAD)),
        (answer_500_to_what_is_broken, ask(CHUNKED)),
        (send_much, leave_after(GET, 10)),
        (write_much, leave_after(GET, 10)),
        (fail, ask(GET)),
        (fail_late, ask(GET)),
    ],
)
def test_a_request_is_freed_at_once_whatever_goes_wrong(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, app: Any, act: Callable[[Client], None], settings: Any
) -> None:
    monkeypatch.setattr(logging.getLogger("streamserve.wsgi"), "disabled", True)  # records keep the errors
    running = serve(app, buffered_body=0, **settings)
    with running.client() as client:  # what is made once for all requests
        act(client)
    running.examine()
    with garbage() as found:
        for _ in range(3):
            act(running.client(receive_buffer=4096))
        running.examine()
        running.call(gc.collect)
    assert found == []


class LookingHandler(logging.Handler):
    """Has a watchdog look, from another thread, while the server logs a failure: within its except clause."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.reports: list[str] = []
        self.dog = Watchdog(lambda: self.now)
        self.pool = ThreadPoolExecutor(1)

    def look(self) -> None:
        for _ in range(3):
            self.dog.check()
            self.now += 1

    def emit(self, record: logging.LogRecord) -> None:
        self.pool.submit(self.look).result()

    def close(self) -> None:
        self.pool.shutdown()
        super().close()


@pytest.mark.parametrize("reports", [False, True])
def test_a_look_of_the_watchdog_keeps_no_error_alive(
    serve: Serve, caplog: pytest.LogCaptureFixture, reports: bool
) -> None:
    log, handler = logging.getLogger("streamserve.wsgi"), LookingHandler()
    log.addHandler(handler)
    log.propagate = False
    try:
        running = serve(fail)
        running.call(handler.dog.watch, running.hub, 1.0 if reports else 1000.0, handler.reports.append)
        running.ask(GET)
        with garbage() as found:
            for _ in range(3):
                assert running.ask(GET).status == 500
            running.examine()
        assert found == []
        if reports:
            assert "by the request at GET / at" in handler.reports[0]
        else:
            assert handler.reports == []
    finally:
        log.removeHandler(handler)
        handler.close()
        log.propagate = True


def test_the_collector_survives_an_application_that_keeps_the_error_of_a_broken_download() -> None:
    assert printed("""
        import gc, socket, struct
        import streamserve
        from streamserve.green import socket as green
        from streamserve.wsgi import WSGIServer

        def app(environ, start_response):
            write = start_response("200 OK", [])
            try:
                write(b"x" * 20_000_000)
            except ConnectionError as error:
                cycle = [error]
                error.cycle = cycle
                done.append(True)
            return []

        done = []
        server = WSGIServer("127.0.0.1:0", app)
        server.start()
        gc.disable()  # the cycles stay until they are collected below
        for _ in range(3):
            client = green.create_connection(server.sockets[0].getsockname())
            client.sendall(b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
            client.recv(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        while len(done) < 3:
            streamserve.sleep(0.001)
        streamserve.sleep(0.001)
        assert gc.collect()
        server.stop()
        print("alive")
    """) == ["alive"]


def test_a_mixed_load_under_a_busy_watchdog_leaves_no_garbage(tmp_path: Path) -> None:
    (tmp_path / "loaded.py").write_text(LOADED_APP)
    # An eighth of the limit is the time between two looks: a hundred a second.
    with ServedCommand("loaded:app", "--block-warning", "80ms", cwd=tmp_path) as server:
        host, _, port = server.url.removeprefix("http://").rstrip("/").rpartition(":")
        address = (host, int(port))

        def get(path: bytes) -> Response:
            with Client(address) as client:
                client.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
                return client.response()

        assert get(b"/begin").status == 200
        threads = [threading.Thread(target=make_load, args=(address, seed, 200)) for seed in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(b"/garbage").body == b"Counter()"
