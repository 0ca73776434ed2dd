"""TLS handshakes at once: who keeps the server waiting gives way to new clients; whose bytes are here does not."""

import ssl
import threading
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.wsgi import WSGIServer
from tests.support.client import Client
from tests.support.logs import log_with
from tests.support.server import PATIENCE, Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MOST = 4


def have_patience(monkeypatch: pytest.MonkeyPatch, nanoseconds: int) -> None:
    """A server that starts now waits so long for clients where there are too many."""
    make = WSGIServer._core_config

    def core_config(self: WSGIServer) -> Any:
        config = make(self)
        config.handshake_patience = nanoseconds
        return config

    monkeypatch.setattr(WSGIServer, "_core_config", core_config)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    have_patience(monkeypatch, 1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    have_patience(monkeypatch, int(PATIENCE * 1e9))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def hello(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def is_served(running: Running, context: ssl.SSLContext) -> bool:
    with TlsClient(running.addresses[0], context) as client:
        client.send(GET)
        return client.response().body == b"hello"


def silent(running: Running) -> Client:
    return running.client()


def halfway(running: Running) -> Client:
    client = running.client()
    client.send(client_hello())
    assert client.exactly(1) == b"\x16"
    return client


def dripping(running: Running) -> Client:
    client = running.client()
    client.send(client_hello()[:10])
    return client


def accepted(running: Running, begin: Any, count: int) -> list[Client]:
    """So many connections, in this order."""
    clients = []
    for _ in range(count):
        before = running.count(lib.SS_COUNT_ACCEPTED)
        clients.append(begin(running))
        eventually(lambda seen=before: running.count(lib.SS_COUNT_ACCEPTED) > seen, "it is accepted")
    return clients


def ended(client: Client) -> bool:
    with suppress(ConnectionResetError):
        client.rest()
    return True


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begin", [silent, halfway, dripping])
def test_oldest_that_keeps_us_waiting_gives_way(serve: Serve, authority: Authority, begin: Any, caplog: Any) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=MOST, handshake_timeout=0)
    caplog.set_level("INFO", "streamserve.wsgi")
    trust = authority.trust()
    waiting = deque(accepted(running, begin, MOST))
    for _ in range(MOST + 1):
        eventually(lambda: running.count(lib.SS_COUNT_TLS) == MOST, "none but they are there")
        assert is_served(running, trust)
        assert ended(waiting.popleft())
        running.verify()
        waiting += accepted(running, begin, 1)
    log_with(
        caplog,
        "127.0.0.1 closed: its TLS handshake kept the server waiting while there were too many"
        f" (max_handshakes={MOST})",
    )


@pytest.mark.usefixtures("impatient")
def test_flood_of_those_that_never_begin_keeps_nobody_out(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=MOST, handshake_timeout=0)
    trust = authority.trust()
    for number in range(100):
        silent(running)
        if number % 20 == 0:
            assert is_served(running, trust)
    assert is_served(running, trust)
    eventually(lambda: running.count(lib.SS_COUNT_TLS) <= MOST, "the others have ended")
    running.verify()


@pytest.mark.usefixtures("impatient")
def test_whose_bytes_are_here_is_answered_before_anything_ends_it(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=MOST, handshake_timeout=0)
    said = client_hello()
    with running.held():
        crowd = [running.client() for _ in range(5 * MOST)]
        for client in crowd:
            client.send(said)
    for client in crowd:
        assert client.exactly(1) == b"\x16"
    running.verify()


@pytest.mark.usefixtures("patient")
def test_of_a_crowd_of_good_clients_none_ends_for_another(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=MOST, handshake_timeout=0)
    context = authority.trust()
    served: list[bool] = []
    threads = [threading.Thread(target=lambda: served.append(is_served(running, context))) for _ in range(5 * MOST)]
    with running.held():
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert served == [True] * len(threads)


def test_patience_is_a_second(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=1, handshake_timeout=0)
    config = running.server._core_config()
    assert (config.handshake_patience, config.max_handshakes) == (1_000_000_000, 1)
    (waiting,) = accepted(running, silent, 1)
    assert is_served(running, authority.trust())  # once the second is over, without an event of the waiting client's
    assert ended(waiting)


def test_complete_ones_do_not_count(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=1, handshake_timeout=0)
    with ExitStack() as stack:
        clients = [stack.enter_context(TlsClient(running.addresses[0], authority.trust())) for _ in range(4)]
        for client in [*clients, *clients]:
            client.send(GET)
            assert client.response().body == b"hello"
        running.verify()


def test_no_limit(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), max_handshakes=0, handshake_timeout=0)
    accepted(running, silent, 20)
    assert is_served(running, authority.trust())
    eventually(lambda: running.count(lib.SS_COUNT_TLS) == 20, "all are there")
