"""Clients that do not read: what the kernel holds for them is bounded, and all of it comes when they do."""

import re
import socket
from pathlib import Path
from resource import getpagesize
from typing import Any

import pytest

from streamserve.listening.network import UNSENT
from streamserve.server import StreamServer
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

CLIENTS = 40
PAGE = b"x" * (8 << 20)
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
FOR_EACH = 1 << 20
"""Bytes of the kernel's for a client: both sides' buffers are about 0.3 MB. Unbounded they grow to 4.3 MB."""


def kernel_memory() -> int:
    """Bytes that all TCP connections of this machine hold."""
    line = re.search(r"^TCP: .* mem (\d+)$", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert line is not None
    return int(line[1]) * getpagesize()


def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [PAGE]


def test_forty_clients_that_do_not_read_take_little_of_the_kernels_memory(serve: Serve) -> None:
    server = serve(page)
    before = kernel_memory()
    clients = [server.client() for _ in range(CLIENTS)]
    for client in clients:
        client.send(GET)
    eventually(lambda: len(server.waiters()) == CLIENTS, "every response waits for its client")
    assert kernel_memory() - before < CLIENTS * FOR_EACH
    assert clients[0].response().body == PAGE


def test_the_bound_is_a_setting(serve: Serve) -> None:
    for limit in (UNSENT, 1 << 20, 0):
        listener = serve(page, tcp_notsent_lowat=limit).server.sockets[0]
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == limit


@pytest.mark.parametrize("made", ["an address", "a socket"])
def test_a_stream_server_has_it_too(made: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        server = StreamServer(own if made == "a socket" else ("127.0.0.1", 0), lambda *_: None)
        server.init_socket()
        assert server.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT
        server.close()
