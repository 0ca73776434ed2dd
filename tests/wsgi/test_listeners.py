"""Where a server listens: several addresses, IPv6, unix sockets."""

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import has_ipv6
from tests.wsgi.conftest import Serve

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
NAMES = ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT", "PATH_INFO")


def where(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [" ".join(environ[name] or "-" for name in NAMES).encode()]


def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    running = serve(where, listener=f"unix:{tmp_path}/s")
    for _ in range(2):
        with running.client() as client:
            for number in (1, 1, 2):
                client.send(GET % number)
                assert client.response().body == b"localhost 80 - - /%d" % number


def test_a_unix_client_that_half_closes(serve: Serve, tmp_path: Path) -> None:
    running = serve(where, listener=f"unix:{tmp_path}/s")
    with running.client() as client:
        client.send(GET % 1)
        client.finish()
        assert client.response().status == 200 and client.ended()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6(serve: Serve) -> None:
    running = serve(where, listener="[::1]:0")
    with running.client() as client:
        port = client.socket.getsockname()[1]
        client.send(GET % 1)
        assert client.response().body == f"[::1] {running.port} ::1 {port} /1".encode()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_an_ipv4_client_of_an_ipv6_listener(serve: Serve) -> None:
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", 0))
    listener.listen()
    running = serve(where, listener=listener)
    running.addresses = [("127.0.0.1", running.port)]
    with running.client() as client:
        client.send(GET % 1)
        assert b" 127.0.0.1 " in client.response().body


def test_several_listeners_are_each_their_own(serve: Serve, tmp_path: Path) -> None:
    running = serve(where, listener=["127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path}/s"])
    ports = [str(address[1]) for address in running.addresses[:2]]
    clients = [running.client(number) for number in (0, 1, 2)]
    for turn in range(3):
        for client in clients:
            client.send(GET % turn)
        names = [client.response().body.decode().split(" ") for client in clients]
        assert [name[1] for name in names] == [*ports, "80"]
        assert [name[4] for name in names] == [f"/{turn}"] * 3


def test_a_bound_socket(serve: Serve) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    assert serve(where, listener=listener).ask(GET % 1).status == 200


def test_a_unix_client_that_passes_descriptors_is_read_on(serve: Serve, tmp_path: Path) -> None:
    """A read ends where descriptors were passed, and what stands behind it makes no further edge."""
    sent = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sent.wait(20)  # in the thread of the loop, which reads nothing meanwhile
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    running = serve(app, listener=f"unix:{tmp_path}/s")
    with running.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000
        for start in range(0, len(request), 10_000):
            socket.send_fds(client.socket, [request[start : start + 10_000]], [0])
        sent.set()
        assert client.response().body == b""
        assert client.response().body == b"x" * 40_000
