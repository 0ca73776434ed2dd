"""The PROXY protocol, versions 1 and 2: haproxy's doc/proxy-protocol.txt."""

import contextlib
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.errors import ConfigurationError
from streamserve.settings import Settings
from streamserve.wsgi import WSGIServer
from tests.support.client import Client
from tests.support.logs import awaited_lines, log_with
from tests.support.server import eventually
from tests.support.servers.daemon import Daemon, Program
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("203.0.113.9") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 80)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9") * 2 + struct.pack("!HH", 4711, 80)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.9") * 2 + struct.pack("!HH", 4711, 80)
UNIX = b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")
TLV = b"\x04\x00\x05hello" + b"\x20\x00\x01\x00"


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(addresses)) + addresses


def telling(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [f"{environ['REMOTE_ADDR']} {environ['REMOTE_PORT']}".encode()]


NAMED = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n", b"203.0.113.9 4711"),
    (b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n", b"2001:db8::9 4711"),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 4711 80\r\n", b"203.0.113.9 4711"),
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 0 65535\r\n", b"203.0.113.9 0"),
    (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", b"ffff:" * 7 + b"ffff 65535"),
    (v2(1, 0x11, V4), b"203.0.113.9 4711"),
    (v2(1, 0x11, V4 + TLV), b"203.0.113.9 4711"),
    (v2(1, 0x11, V4 + b"\x04\x0f\x00" + bytes(3840)), b"203.0.113.9 4711"),
    (v2(1, 0x21, V6), b"2001:db8::9 4711"),
    (v2(1, 0x21, MAPPED + TLV), b"203.0.113.9 4711"),
]
UNNAMED = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN whatever stands here\r\n",
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",
    v2(0, 0x00, b""),
    v2(0, 0x11, V4),
    v2(0, 0x00, TLV),
    v2(1, 0x00, b""),
    v2(1, 0x00, TLV),
    v2(1, 0x31, UNIX),
    v2(1, 0x12, V4),
    v2(1, 0x22, V6),
    v2(1, 0x32, UNIX),
]
MALFORMED = [
    GET,
    b"\r\n" + GET,
    b"X",
    b"proxy TCP4 203.0.113.9 192.0.2.1 4711 80\r\n",
    b"PROXY  TCP4 203.0.113.9 192.0.2.1 4711 80\r\n",
    b"PROXY TCP5 203.0.113.9 192.0.2.1 4711 80\r\n",
    b"PROXY TCP4 2001:db8::9 192.0.2.1 4711 80\r\n",
    b"PROXY TCP6 203.0.113.9 192.0.2.1 4711 80\r\n",
    b"PROXY TCP4 203.0.113.9  192.0.2.1 4711 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80 \r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80 1\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 04711 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 80\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\n",
    b"PROXY TCP4 203.0.113.9\0 192.0.2.1 4711 80\r\n",
    b"PROXY TCP4 203.0.113.256 192.0.2.1 4711 80\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 200,
    SIGNATURE + b"\x11\x11\x00\x0c" + V4,
    SIGNATURE + b"\x31\x11\x00\x0c" + V4,
    v2(2, 0x11, V4),
    v2(1, 0x13, V4),
    v2(1, 0x41, V4),
    v2(1, 0x01, V4),
    v2(1, 0x10, V4),
    v2(1, 0x11, V4[:-1]),
    v2(1, 0x21, V6[:-1]),
    v2(1, 0x31, UNIX[:-1]),
    v2(1, 0x11, V4 + bytes(4096)),
    SIGNATURE + b"\x21\x11\xff\xff",
]


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(("header", "peer"), NAMED)
def test_the_header_names_the_client(serve: Serve, header: bytes, peer: bytes, bytewise: bool) -> None:
    with serve(telling, proxy_protocol="on").client() as client:
        (client.send_bytewise if bytewise else client.send)(header + GET + GET)
        assert [client.response().body for _ in range(2)] == [peer, peer]
        client.send(GET)
        assert client.response().body == peer


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("header", UNNAMED)
def test_where_it_names_nobody_the_peer_is_the_peer(serve: Serve, header: bytes, bytewise: bool) -> None:
    with serve(telling, proxy_protocol="on").client() as client:
        (client.send_bytewise if bytewise else client.send)(header)
        client.send(GET)
        host, port = client.socket.getsockname()
        assert client.response().body == f"{host} {port}".encode()


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("header", MALFORMED)
def test_what_is_malformed_is_closed_with_one_line(
    serve: Serve, caplog: pytest.LogCaptureFixture, header: bytes, bytewise: bool
) -> None:
    caplog.set_level("INFO")
    client = serve(telling, proxy_protocol="on").client()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed before the last byte was written
        (client.send_bytewise if bytewise else client.send)(header + GET)
    assert client.ended()
    assert awaited_lines(caplog) == ["127.0.0.1 closed: the connection does not begin with a PROXY protocol header"]


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 203", v2(1, 0x11, V4)[:20]])
def test_it_has_the_deadline_of_a_head(serve: Serve, caplog: pytest.LogCaptureFixture, begun: bytes) -> None:
    caplog.set_level("INFO")
    client = serve(telling, proxy_protocol="on", head_timeout=0.2).client()
    client.send(begun)
    assert client.ended()
    log_with(caplog, "closed: the PROXY protocol header was not complete in time (head_timeout=0.2)")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(0, 0, b"")])
def test_an_end_after_the_header_is_an_end(serve: Serve, caplog: pytest.LogCaptureFixture, header: bytes) -> None:
    caplog.set_level("INFO")
    client = serve(telling, proxy_protocol="on").client()
    client.send(header)
    client.finish()
    assert client.ended()
    assert not caplog.records


def test_it_comes_once(serve: Serve) -> None:
    client = serve(telling, proxy_protocol="on").client()
    client.send(NAMED[0][0] + NAMED[0][0] + GET)
    assert client.response().status == 400
    assert client.rest() == b""


@pytest.mark.parametrize(
    ("allowed", "source", "speaks"),
    [
        ("127.0.0.2", "127.0.0.2", True),
        ("127.0.0.2", "127.0.0.3", False),
        ("127.0.0.64/26", "127.0.0.127", True),
        ("127.0.0.64/26", "127.0.0.128", False),
        ("127.0.0.0/8", "127.9.9.9", True),
        ("126.0.0.0/7", "127.0.0.1", True),
        ("::1, fd00::/8", "127.0.0.1", False),
        ("*", "127.0.0.1", True),
        ("", "127.0.0.1", False),
    ],
)
def test_who_is_not_allowed_does_not_speak_it(serve: Serve, allowed: str, source: str, speaks: bool) -> None:
    running = serve(telling, listener="0.0.0.0:0", proxy_protocol="on", proxy_allow_ips=allowed)
    address = ("127.0.0.1", running.port)
    with running.connect(address, source) as client:
        client.send(NAMED[0][0] + GET)
        response = client.response()
        assert (response.status == 200 and response.body == NAMED[0][1]) if speaks else response.status == 400
    if not speaks:
        with running.connect(address, source) as client:
            client.send(GET)
            assert client.response().body.startswith(source.encode() + b" ")


def test_peers_of_a_unix_socket_speak_it(serve: Serve, tmp_path: Path) -> None:
    running = serve(telling, listener=f"unix:{tmp_path / 'socket'}", proxy_protocol="on")
    assert running.ask(NAMED[0][0] + GET).body == NAMED[0][1]


def test_off_it_is_a_bad_request(serve: Serve) -> None:
    assert serve(telling).ask(NAMED[0][0] + GET).status == 400


def test_a_client_named_so_is_trusted_only_if_listed(serve: Serve) -> None:
    """Forwarded headers are the client's word then, not the load balancer's."""
    running = serve(telling, proxy_protocol="on", forwarded_allow_ips="127.0.0.1")
    header = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    assert running.ask(NAMED[0][0] + header).body == NAMED[0][1]


def test_a_proxy_named_so_speaks_for_its_clients(serve: Serve) -> None:
    """One that speaks HTTP, in front of a load balancer that passes TCP on."""
    running = serve(telling, proxy_protocol="on", forwarded_allow_ips="203.0.113.9")
    with running.client() as client:
        client.send(NAMED[0][0])
        for number in (1, 2, 1, 1):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6, 198.51.100.%d:99\r\n\r\n" % number)
            assert client.response().body == b"198.51.100.%d 99" % number
        client.send(GET)
        assert client.response().body == NAMED[0][1]


def test_many_connections_leave_nothing(serve: Serve) -> None:
    running = serve(telling, proxy_protocol="on")
    for number, (header, _) in enumerate(NAMED * 5):
        with running.client() as client:
            client.send(header[: number % len(header)])
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "all are closed")


def test_beside_tls_it_is_refused_at_the_start(tmp_path: Path) -> None:
    pem = str(Path(__file__).parents[1] / "support" / "localhost.pem")
    with pytest.raises(ConfigurationError, match="let the load balancer end TLS"):
        WSGIServer("127.0.0.1:0", telling, settings=Settings(certfile=(pem,), proxy_protocol="on"))


CONFIGURATION = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 10s
    timeout server 10s
listen passing
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{target} {option}
"""


class Haproxy(Daemon):
    """A load balancer that passes connections on with a PROXY protocol header."""

    program = Program("haproxy", "haproxy")

    def __init__(self, target: int, option: str) -> None:
        self.target, self.option = target, option
        super().__init__()

    def command(self) -> list[str]:
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(port=self.port, target=self.target, option=self.option))
        return [str(self.executable), "-db", "-f", str(configuration)]


@pytest.mark.foreign
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 check check-send-proxy"])
def test_through_haproxy(serve: Serve, option: str) -> None:
    running = serve(telling, proxy_protocol="on")
    with Haproxy(running.port, option) as haproxy, Client(("127.0.0.1", haproxy.port)) as client:
        host, port = client.socket.getsockname()
        for _ in range(2):
            client.send(GET)
            assert client.response().body == f"{host} {port}".encode()
