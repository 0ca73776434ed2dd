"""Limits of connections and of requests that run, and clients that read slowly: points 35 and 39."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.loop.joining import sleep
from tests.support.client import Client
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
ROOT = Path(__file__).parents[2]


class Gate:
    """An application whose requests wait until the test lets them go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = 0
        self.most = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            while not self.open.is_set():
                sleep(0.002)
        finally:
            self.inside -= 1
        start_response("200 OK", [])
        return [b"through"]


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"plain"]


def test_connections_over_the_limit_are_answered_503(serve: Serve) -> None:
    running = serve(plain, max_connections=3)
    clients = [running.client() for _ in range(3)]
    for client in clients:
        client.send(GET)
        assert client.response().status == 200
    for _ in range(3):
        with running.client() as over:
            over.send(GET)
            response = over.response()
            assert (response.status, response.get("retry-after"), response.closes) == (503, "1", True)
            assert over.ended()
    for client in clients:
        client.send(GET)
        assert client.response().status == 200
        client.close()
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the places are free")
    assert running.ask(GET).status == 200


@pytest.mark.parametrize("queue", [0, 1, 2, 5])
def test_requests_over_the_limit_wait_then_are_503_then_all_is_well(serve: Serve, queue: int) -> None:
    gate = Gate()
    running = serve(gate, concurrency=2, queue=queue)
    places = 2 + queue
    clients = [running.client() for _ in range(places)]
    for client in clients:
        client.send(GET)
    eventually(lambda: gate.inside == 2, "two requests run")
    eventually(lambda: running.count(lib.SS_COUNT_REQUESTS) == places, "the others wait")
    for _ in range(3):  # each of them, not only the first
        with running.client() as over:
            over.send(GET)
            response = over.response()
            assert (response.status, response.get("retry-after"), response.closes) == (503, "1", True)
    gate.open.set()
    assert [client.response().status for client in clients] == [200] * places
    assert gate.most == 2
    for _ in range(3):
        assert running.ask(GET).status == 200


def test_waiting_requests_of_clients_that_left_do_no_harm(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate, concurrency=1, queue=100)
    for _ in range(20):
        client = running.client()
        client.send(GET)
        client.reset()
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 20, "all came")
    gate.open.set()
    eventually(lambda: running.server.active == 0 and not running.server.waiting, "all were served")
    assert running.ask(GET).status == 200


def test_pipelines_share_the_limit(serve: Serve) -> None:
    gate = Gate()
    gate.open.set()
    running = serve(gate, concurrency=3, queue=1000)
    clients = [running.client() for _ in range(20)]
    for client in clients:
        client.send(GET * 10)
    for client in clients:
        assert [client.response().status for _ in range(10)] == [200] * 10
    assert gate.most <= 3


def test_a_slow_reader_parks_the_application_and_memory_stays_bounded(serve: Serve) -> None:
    produced: list[int] = [0]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        for _ in range(1000):
            produced[0] += 1
            yield b"x" * 65536

    running = serve(app)
    client = running.client(receive_buffer=300_000)
    client.send(GET)
    client.head()

    def parked() -> bool:
        return len(running.waiters()) == 1

    for _ in range(3):
        eventually(parked, "the application waits for the client")
        before = produced[0]
        assert running.count(lib.SS_COUNT_QUEUED_BYTES) <= 3 * 65536
        taken = 0
        while produced[0] == before and taken < 20_000_000:
            taken += len(client.socket.recv(65536))
        assert produced[0] > before
    client.reset()


@pytest.mark.parametrize("piece", [10, 3000, 65536, 1_000_000])
def test_a_slow_reader_gets_every_byte(serve: Serve, piece: int) -> None:
    count = 3_000_000 // piece if piece > 1000 else 3000

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return (bytes([number % 256]) * piece for number in range(count))

    client = serve(app).client(receive_buffer=300_000)
    client.send(GET)
    body = client.response().body
    assert body == b"".join(bytes([number % 256]) * piece for number in range(count))


def test_write_parks_too(serve: Serve) -> None:
    written: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        for _ in range(200):
            write(b"x" * 65536)
            written.append(1)
        return []

    running = serve(app)
    client = running.client(receive_buffer=300_000)
    client.send(GET)
    eventually(running.waiters, "write waits")
    assert len(written) < 200
    assert len(client.response().body) == 200 * 65536


def test_a_client_that_leaves_ends_a_parked_application(serve: Serve) -> None:
    ended: list[type] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        try:
            while True:
                write(b"x" * 65536)
        except BaseException as error:
            ended.append(type(error))
            raise

    running = serve(app)
    for leave in (Client.reset, Client.close):
        client = running.client(receive_buffer=4096)
        client.send(GET)
        eventually(running.waiters, "the application waits")
        leave(client)
        eventually(lambda: running.server.active == 0, "it was told")
    assert all(issubclass(kind, OSError) for kind in ended) and len(ended) == 2


FEW_DESCRIPTORS = """
import resource, sys, logging
from tests.support.client import Client
from tests.support.server import Running, eventually
from streamserve.core import lib

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"fine"]

GET = b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n"
logged = []
handler = logging.Handler()
handler.emit = lambda record: logged.append(record.getMessage())
logging.getLogger("streamserve.wsgi").addHandler(handler)
with Running(app, sys.argv[1]) as running:
    first = running.client()
    first.send(GET)
    assert first.response().status == 200
    sockets = []
    address = running.addresses[0]
    import os, socket
    for _ in range(30):
        sockets.append(socket.socket())
    highest = os.open("/dev/null", os.O_RDONLY)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for each in sockets:
        each.settimeout(60)
        each.connect(address)
        each.sendall(GET)
    eventually(lambda: logged, "the log says so")
    assert "open files" in logged[0], logged
    first.send(GET)
    assert first.response().status == 200, "who is connected is still served"
    for each in sockets:
        each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    late = running.client()
    late.send(GET)
    assert late.response().status == 200, "accepting goes on"
print("recovered")
"""


@pytest.mark.parametrize("backend", ["epoll", "poll"])
def test_out_of_descriptors_accepting_pauses_and_recovers(backend: str) -> None:
    """In a process of its own: the limit is the process's."""
    done = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS, backend], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "recovered\n", done.stderr
