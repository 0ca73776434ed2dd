"""TLS of a StreamServer."""

import contextlib
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from streamserve.errors import ConfigurationError
from streamserve.green import ssl as green_ssl
from streamserve.server import StreamServer
from streamserve.sync.event import Event
from tests.server.conftest import PATIENCE, Connect

PEM = str(Path(__file__).parents[1] / "support" / "localhost.pem")


def echo(client: Any, address: Any) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def encrypted(plain: Any) -> Any:
    """Makes a client's handshake."""
    context = green_ssl.create_default_context(cafile=PEM)
    return context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def read_to_the_end(plain: Any) -> None:
    """Reads alerts, if the server had time for them, until the connection is closed or reset."""
    with contextlib.suppress(ConnectionResetError):
        while plain.recv(100):
            pass


@pytest.mark.parametrize(
    "arguments",
    [
        {"certfile": PEM},
        {"certfile": PEM, "keyfile": PEM, "ciphers": "ECDHE+AESGCM", "server_side": True},
        {"ssl_context": server_context()},
        {"ssl_context": server_context(), "suppress_ragged_eofs": True},
    ],
    ids=["certfile", "parts", "context", "context and option"],
)
def test_echo(arguments: dict[str, Any], connect: Connect) -> None:
    with StreamServer("127.0.0.1:0", echo, **arguments) as server, encrypted(connect(server)) as client:
        assert server.ssl_enabled
        client.sendall(b"x" * 100_000)
        answer = b""
        while len(answer) < 100_000:
            answer += client.recv(65536)
        assert answer == b"x" * 100_000


def test_handler_gets_a_cooperative_socket_without_a_timeout(connect: Connect) -> None:
    seen: list[Any] = []

    def handle(client: Any, address: Any) -> None:
        seen.extend((type(client), client.gettimeout(), address, client.version()))

    with StreamServer("127.0.0.1:0", handle, certfile=PEM) as server:
        plain = connect(server)
        name = plain.getsockname()
        with encrypted(plain) as client:
            assert client.recv(1) == b""
    assert seen == [green_ssl.SSLSocket, None, name, "TLSv1.3"]


def test_client_knows_that_nothing_was_cut_off(connect: Connect) -> None:
    """The end of the data is told: without that, reading to the end raises SSLEOFError here."""

    def handle(client: Any, address: Any) -> None:
        client.sendall(b"all")

    with StreamServer("127.0.0.1:0", handle, certfile=PEM) as server, encrypted(connect(server)) as client:
        assert (client.recv(100), client.recv(100)) == (b"all", b"")


def test_client_knows_that_something_was_cut_off(connect: Connect) -> None:
    sent = Event()

    def handle(client: Any, address: Any) -> None:
        client.sendall(b"half")
        sent.set()
        Event().wait()

    with StreamServer("127.0.0.1:0", handle, certfile=PEM) as server, encrypted(connect(server)) as client:
        assert sent.wait(PATIENCE)
        assert server.stop(0) == 1
        assert client.recv(100) == b"half"
        with pytest.raises(ssl.SSLEOFError):
            client.recv(100)


def test_client_that_speaks_no_tls_is_logged_and_ends_nothing(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with StreamServer("127.0.0.1:0", echo, certfile=PEM) as server:
        for _ in range(3):
            plain = connect(server)
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            read_to_the_end(plain)
        assert server.handshake_failures == 3
        with encrypted(connect(server)) as client:
            client.sendall(b"ping")
            assert client.recv(100) == b"ping"
    lines = [record.getMessage() for record in caplog.records if record.name == "streamserve.server"]
    assert "TLS handshake with ('127.0.0.1', " in lines[0]
    assert len(lines) <= server.handshake_failures


def test_client_that_says_nothing_is_given_up(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    class Impatient(StreamServer):
        handshake_timeout = 0.05

    with Impatient("127.0.0.1:0", echo, certfile=PEM) as server:
        assert connect(server).recv(1) == b""
        assert server.handshake_failures == 1
    assert "timed out" in caplog.text


def test_client_that_leaves_in_the_handshake_is_counted(connect: Connect) -> None:
    with StreamServer("127.0.0.1:0", echo, certfile=PEM) as server:
        plain = connect(server)
        plain.shutdown(1)
        read_to_the_end(plain)
        assert server.handshake_failures == 1


def test_silent_clients_do_not_keep_others_waiting(connect: Connect) -> None:
    with StreamServer("127.0.0.1:0", echo, certfile=PEM) as server:
        silent = [connect(server) for _ in range(20)]
        with encrypted(connect(server)) as client:
            client.sendall(b"ping")
            assert client.recv(100) == b"ping"
        del silent


def test_handshake_may_be_left_to_the_handler(connect: Connect) -> None:
    def handle(client: Any, address: Any) -> None:
        client.do_handshake()
        client.sendall(client.version().encode())

    with StreamServer("127.0.0.1:0", handle, certfile=PEM, do_handshake_on_connect=False) as server:
        assert encrypted(connect(server)).recv(100) == b"TLSv1.3"


def test_client_certificate_is_asked_for(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    arguments: dict[str, Any] = {"certfile": PEM, "ca_certs": PEM, "cert_reqs": ssl.CERT_REQUIRED}
    seen: list[Any] = []

    def handle(client: Any, address: Any) -> None:
        seen.append(client.getpeercert()["subject"])
        client.sendall(b"welcome")

    with StreamServer("127.0.0.1:0", handle, **arguments) as server:
        context = green_ssl.create_default_context(cafile=PEM)
        context.load_cert_chain(PEM)
        with context.wrap_socket(connect(server), server_hostname="localhost") as client:
            assert client.recv(100) == b"welcome"
        with pytest.raises(ssl.SSLError), encrypted(connect(server)) as stranger:
            stranger.recv(100)
        assert server.handshake_failures == 1
    assert seen == [((("commonName", "localhost"),),)]


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "kind", "problem"),
        [
            ({"keyfile": PEM}, TypeError, "TLS needs ssl_context=, or certfile="),
            ({"certfile": PEM, "server_side": False}, TypeError, "server_side=False makes no server"),
            ({"ssl_context": server_context(), "certfile": PEM}, TypeError, "certfile belongs into the ssl_context"),
            ({"certfile": PEM, "colour": "red"}, TypeError, "colour"),
            (
                {"certfile": "/no/s.pem"},
                ConfigurationError,
                "certfile='/no/s.pem' cannot be used: .*No such file",
            ),
            ({"certfile": __file__}, ConfigurationError, "certfile=.* cannot be used: .*; give a PEM file"),
            ({"certfile": PEM, "keyfile": __file__}, ConfigurationError, "with keyfile="),
            ({"certfile": PEM, "ca_certs": "/no/ca.pem"}, ConfigurationError, "ca_certs='/no/ca.pem' cannot be used"),
            ({"certfile": PEM, "ciphers": "none"}, ConfigurationError, "ciphers='none' cannot be used"),
            ({"ssl_context": ssl.create_default_context()}, ConfigurationError, "ssl_context is one for clients"),
        ],
    )
    def test_that_cannot_be_used_are_refused_at_once(
        self, arguments: dict[str, Any], kind: type[Exception], problem: str
    ) -> None:
        with pytest.raises(kind, match=problem):
            StreamServer("127.0.0.1:0", echo, **arguments)

    def test_encrypted_listener_is_refused(self) -> None:
        listener = server_context().wrap_socket(socket.socket(), server_side=True)
        with listener, pytest.raises(TypeError, match="is encrypted already: give the plain socket"):
            StreamServer(listener, echo)


def test_plain_server_logs_nothing(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamserve.server")
    with StreamServer("127.0.0.1:0", echo) as server:
        assert not server.ssl_enabled
        client = connect(server)
        client.sendall(b"ping")
        assert client.recv(100) == b"ping"
    assert not caplog.records
