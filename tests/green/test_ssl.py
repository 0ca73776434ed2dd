"""Cooperative TLS sockets, over real handshakes with a certificate for localhost."""

import os
import ssl as standard
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve import Timeout, get_hub, sleep, spawn
from streamserve.green import socket, ssl

CERTIFICATE = str(Path(__file__).parents[1] / "support" / "localhost.pem")


@pytest.fixture(scope="module")
def server_side() -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture(scope="module")
def client_side() -> Any:
    return ssl.create_default_context(cafile=CERTIFICATE)


@pytest.fixture
def listener() -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def pair(listener: Any, server_side: Any, client_side: Any) -> Iterator[tuple[Any, Any]]:
    """Both ends of a connection, as (client, server)."""

    def accept() -> Any:
        return server_side.wrap_socket(listener.accept()[0], server_side=True)

    accepting = spawn(accept)
    plain = socket.create_connection(listener.getsockname())
    client = client_side.wrap_socket(plain, server_hostname="localhost")
    server = accepting.get(timeout=20)
    yield client, server
    client.close()
    server.close()


def test_handshakes_of_both_sides_run_beside_each_other(pair: tuple[Any, Any]) -> None:
    client, server = pair
    assert client.version() == server.version() == "TLSv1.3"
    assert client.getpeercert()["subject"]


def test_is_a_standard_tls_socket_and_a_cooperative_one(pair: tuple[Any, Any]) -> None:
    assert isinstance(pair[0], standard.SSLSocket)
    assert isinstance(pair[0], socket.socket)
    assert type(pair[0]) is ssl.SSLSocket


def test_reading_waits_without_stopping_others(pair: tuple[Any, Any]) -> None:
    reading = spawn(pair[0].recv, 100)
    sleep()
    assert not reading.ready()
    pair[1].sendall(b"hello")
    assert reading.get(timeout=20) == b"hello"


def test_reading_and_writing_go_on_at_once(pair: tuple[Any, Any]) -> None:
    client, server = pair
    data = os.urandom(5_000_000)
    reading = spawn(client.recv, 100)
    sending = spawn(client.sendall, data)
    sleep()
    server.sendall(b"answer")
    assert reading.get(timeout=20) == b"answer"
    got = bytearray()
    while len(got) < len(data):
        got += server.recv(65536)
    sending.get(timeout=20)
    assert bytes(got) == data


def test_what_is_decrypted_already_is_found_without_the_descriptor(pair: tuple[Any, Any]) -> None:
    pair[1].sendall(b"x" * 1000)
    got = pair[0].recv(1)
    with Timeout(20):
        while len(got) < 1000:
            got += pair[0].recv(1 + pair[0].pending())
    assert got == b"x" * 1000


def test_reading_stops_after_the_timeout(pair: tuple[Any, Any]) -> None:
    pair[0].settimeout(0.002)
    with pytest.raises(TimeoutError, match="read operation timed out"):
        pair[0].recv(1)
    pair[0].settimeout(None)
    pair[1].sendall(b"x")
    assert pair[0].recv(1) == b"x"


def test_a_handshake_stops_after_the_timeout(listener: Any, client_side: Any) -> None:
    plain = socket.create_connection(listener.getsockname())
    plain.settimeout(0.002)
    with pytest.raises(TimeoutError, match="handshake operation timed out"):
        client_side.wrap_socket(plain, server_hostname="localhost")


def test_a_non_blocking_one_says_what_it_wants(pair: tuple[Any, Any]) -> None:
    pair[0].setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        pair[0].recv(1)


def test_a_wrong_name_is_refused(listener: Any, server_side: Any, client_side: Any) -> None:
    def accept() -> str:
        peer, _ = listener.accept()
        try:
            server_side.wrap_socket(peer, server_side=True)
        except ssl.SSLError as error:
            return str(error.reason)
        return "accepted"

    accepting = spawn(accept)
    plain = socket.create_connection(listener.getsockname())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        client_side.wrap_socket(plain, server_hostname="elsewhere.example")
    assert accepting.get(timeout=20) != "accepted"
    plain.close()


def test_unwrapping_gives_the_plain_connection_back(pair: tuple[Any, Any]) -> None:
    client, server = pair
    unwrapping = spawn(client.unwrap)
    plain_server = server.unwrap()
    plain_client = unwrapping.get(timeout=20)
    plain_client.sendall(b"plain")
    assert plain_server.recv(100) == b"plain"
    plain_client.close()
    plain_server.close()


def test_closing_ends_whoever_reads(pair: tuple[Any, Any]) -> None:
    get_hub().handle_error = lambda *failure: None  # type: ignore[method-assign]
    try:
        reading = spawn(pair[0].recv, 1)
        sleep()
        pair[0].close()
        with pytest.raises(OSError, match="closed by another greenlet"):
            reading.get(timeout=20)
    finally:
        del get_hub().handle_error


def test_the_certificate_of_a_server_can_be_fetched(listener: Any, server_side: Any) -> None:
    accepting = spawn(lambda: server_side.wrap_socket(listener.accept()[0], server_side=True).close())
    fetched = ssl.get_server_certificate(listener.getsockname())
    accepting.get(timeout=20)
    assert fetched.strip() in Path(CERTIFICATE).read_text()


def test_a_tls_listener_gives_tls_connections(listener: Any, server_side: Any, client_side: Any) -> None:
    with server_side.wrap_socket(listener, server_side=True) as secure:
        accepting = spawn(secure.accept)
        client = client_side.wrap_socket(socket.socket(), server_hostname="localhost")
        assert client.connect_ex(secure.getsockname()) == 0
        server, _ = accepting.get(timeout=20)
        server.sendall(b"x")
        assert client.recv(1) == b"x"
        client.close()
        server.close()


def test_contexts_are_configured_as_the_standard_ones(server_side: Any) -> None:
    """Setting these on a replaced context class called itself without end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_session_is_taken_up_again(listener: Any, server_side: Any) -> None:
    client_side = ssl.create_default_context(cafile=CERTIFICATE)
    client_side.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(session: Any) -> Any:
        accepting = spawn(lambda: server_side.wrap_socket(listener.accept()[0], server_side=True))
        plain = socket.create_connection(listener.getsockname())
        with client_side.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            accepting.get(timeout=20).close()
            return client.session, client.session_reused

    session, reused = connect(None)
    assert not reused
    assert connect(session)[1]


def test_it_works_between_native_threads(listener: Any, server_side: Any, client_side: Any) -> None:
    def serve() -> None:
        with server_side.wrap_socket(listener.accept()[0], server_side=True) as server:
            server.sendall(server.recv(100).upper())

    thread = threading.Thread(target=serve)
    thread.start()
    with client_side.wrap_socket(
        socket.create_connection(listener.getsockname()), server_hostname="localhost"
    ) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"
    thread.join(timeout=20)


def test_one_whose_descriptor_was_seen_before_waits_in_the_loop(
    listener: Any, server_side: Any, client_side: Any
) -> None:
    plain = socket.create_connection(listener.getsockname())
    accepted = listener.accept()[0]
    assert os.get_blocking(plain.fileno())
    assert os.get_blocking(accepted.fileno())
    handshake = spawn(server_side.wrap_socket, accepted, server_side=True)
    client = client_side.wrap_socket(plain, server_hostname="localhost")
    server = handshake.get(timeout=20)
    for sock in (client, server):
        sock.settimeout(None)
        sock.setblocking(True)
    reading = spawn(client.recv, 10)
    sleep()
    assert not reading.ready()
    server.send(b"hello")
    assert reading.get(timeout=20) == b"hello"
    client.close()
    server.close()
