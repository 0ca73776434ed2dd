"""Whoever makes a response for a client that has left learns it where it waits."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve.errors import ClientGone
from streamserve.loop.joining import sleep
from streamserve.sync.event import Event
from tests.support.client import Client
from tests.support.server import Running, eventually
from tests.support.servers.proxies import Nginx
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

WAIT = b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"
IDLE = b"GET /idle HTTP/1.1\r\nHost: h\r\n\r\n"
QUICK = b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\n"
SOON = 5.0
"""Seconds: a second is promised; on a busy machine it may be some more."""


class Site:
    """Waits in some ways; its log has what became of that."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.waiting = self.passed = 0
        self.open = Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [])
            return self._stream(b"piece")
        if environ["PATH_INFO"] == "/idle":
            start_response("200 OK", [])
            return self._stream(b"")
        if environ["PATH_INFO"] == "/wait":
            self._wait()
        if environ["PATH_INFO"] == "/busy":
            self._be_busy()
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    def _wait(self) -> None:
        self.waiting += 1
        try:
            self.open.wait()
            self.passed += 1
        except BaseException as error:
            self.log.append(error)
            raise

    def _stream(self, piece: bytes) -> Iterator[bytes]:
        self.waiting += 1
        try:
            yield piece
            while not self.open.is_set():
                if piece:
                    self.open.wait()
                else:
                    sleep(0.01)
                    yield b""
            yield b"last"
            self.passed += 1
        except BaseException as error:
            self.log.append(error)
            raise

    def _be_busy(self) -> None:
        """Runs without a wait until its client has left for long."""
        self.waiting += 1
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            pass


Leave = Callable[[Client], None]


def closed(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()


def asking(running: Running, site: Site, request: bytes) -> Client:
    """A client whose request waits."""
    before = site.waiting
    client = running.client()
    client.send(request)
    eventually(lambda: site.waiting > before, "the application waits")
    return client


@pytest.mark.parametrize(
    "request_bytes", [WAIT, STREAM, WAIT.replace(b"GET", b"HEAD"), IDLE], ids="wait stream head idle".split()
)
@pytest.mark.parametrize("leave", [closed, reset])
def test_it_is_raised_where_the_application_waits(serve: Serve, request_bytes: bytes, leave: Leave) -> None:
    site = Site()
    running = serve(site)
    others = [asking(running, site, WAIT) for _ in range(3)]
    client = asking(running, site, request_bytes)
    if request_bytes == STREAM:
        client.head()
    time.sleep(0.05)
    leave(client)
    eventually(lambda: site.log, "the application is told", SOON)
    assert [isinstance(error, (ClientGone, GeneratorExit)) for error in site.log] == [True]
    running.call(site.open.set)
    assert [other.response().body for other in others] == [b"done"] * 3


def test_whoever_only_ends_its_side_gets_its_response(serve: Serve) -> None:
    site = Site()
    running = serve(site)
    with asking(running, site, WAIT) as client:
        client.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.8)
        assert not site.log
        running.call(site.open.set)
        assert client.head().status == 100
        assert client.response().body == b"done"


def test_whoever_only_ends_its_side_gets_all_of_a_stream(serve: Serve) -> None:
    site = Site()
    running = serve(site)
    with asking(running, site, STREAM) as client:
        client.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.8)
        running.call(site.open.set)
        client.head()
        assert client.rest() == b"5\r\npiece\r\n04\r\nlast\r\n0\r\n\r\n"


@pytest.mark.parametrize("setting", ["on", "hangup", "off"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_setting_says_what_an_ended_side_means(serve: Serve, setting: str, version: bytes) -> None:
    site = Site()
    running = serve(site, client_gone=setting)
    client = asking(running, site, WAIT.replace(b"1.1", version))
    closed(client)
    if setting == "hangup" or (setting, version) == ("on", b"1.1"):
        eventually(lambda: site.log, "the application is told", SOON)
    else:
        time.sleep(0.8)
        assert not site.log
    running.call(site.open.set)
    eventually(lambda: site.passed or site.log, "the request is over")


def test_the_next_request_is_not_told_of_the_last_ones_client(serve: Serve) -> None:
    site = Site()
    running = serve(site)
    leaving = running.client()
    leaving.send(QUICK.replace(b"quick", b"busy"))
    eventually(lambda: site.waiting, "it runs")
    reset(leaving)
    with asking(running, site, WAIT) as client:
        time.sleep(0.5)
        running.call(site.open.set)
        assert client.response().body == b"done"
    assert not site.log


def test_a_stop_does_not_wait_for_streams_that_nobody_reads(serve: Serve) -> None:
    site = Site()
    running = serve(site)
    clients = [asking(running, site, STREAM) for _ in range(5)]
    stopped = running.stop(60)
    for client in clients:
        reset(client)
    assert stopped.result(SOON) == 0
    assert len(site.log) == 5


def test_a_request_whose_client_left_while_it_was_in_line_is_told_too(serve: Serve) -> None:
    site = Site()
    running = serve(site, concurrency=1)
    first = asking(running, site, WAIT)
    second = running.client()
    second.send(WAIT)
    eventually(lambda: len(running.server.waiting) == 1, "the second is in line")
    reset(second)
    time.sleep(0.1)
    running.call(site.open.set)
    assert first.response().body == b"done"
    eventually(lambda: site.waiting == 2 and not running.server.active, "both are over")


def test_the_access_log_has_499_and_the_error_log_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []

    class Log:
        def write(self, text: str) -> None:
            lines.append(text)

    site = Site()
    running = serve(site, log=Log())
    reset(asking(running, site, WAIT))
    eventually(lambda: lines, "the line is there", SOON)
    assert '"GET /wait HTTP/1.1" 499 ' in lines[0]
    assert not caplog.records


def test_a_hundred_that_leave_at_once_leave_nothing(serve: Serve) -> None:
    site = Site()
    running = serve(site)
    clients = [asking(running, site, (WAIT, STREAM, IDLE)[number % 3]) for number in range(99)]
    for number, client in enumerate(clients):
        (closed, reset)[number % 2](client)
    eventually(lambda: len(site.log) == 99, "all are told", SOON)
    (endpoint,) = running.server._endpoints.values()
    eventually(lambda: not endpoint.departures.known, "nothing is kept")


@pytest.mark.parametrize("request_bytes", [WAIT, STREAM], ids=["wait", "stream"])
@pytest.mark.parametrize("leave", [closed, reset])
def test_it_is_told_over_tls_and_unix_sockets_too(
    serve: Serve, tmp_path: Path, request_bytes: bytes, leave: Leave
) -> None:
    site = Site()
    authority = Authority(tmp_path)
    encrypted = serve(site, certfile=authority.issue("localhost"))
    local = serve(site, listener=f"unix:{tmp_path / 'socket'}")
    clients = TlsClient(encrypted.addresses[0], authority.trust()), local.client()
    for number, client in enumerate(clients):
        client.send(request_bytes)
        eventually(lambda number=number: site.waiting == number + 1, "the application waits")
    for client in clients:
        leave(client)
    eventually(lambda: len(site.log) == 2, "both are told", SOON)


@pytest.mark.foreign
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nginx_hands_on_that_its_client_has_left(serve: Serve, version: str) -> None:
    site = Site()
    running = serve(site, client_gone="on" if version == "1.1" else "hangup")
    location = f"proxy_pass http://127.0.0.1:{running.port}; proxy_http_version {version};"
    with Nginx(f"server {{ listen 80; location / {{ {location} }} }}", 0) as nginx:
        client = Client(("127.0.0.1", nginx.port))
        client.send(WAIT)
        eventually(lambda: site.waiting, "the application waits")
        client.close()
        eventually(lambda: site.log, "the application is told", SOON)
