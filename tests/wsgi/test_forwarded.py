"""Forwarded headers count from trusted peers only: point 21 of the promises, RFC 7239."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.client import has_ipv6
from tests.support.logs import awaited_lines
from tests.support.server import Running
from tests.wsgi.conftest import Serve

KEYS = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT")
OTHERS = "192.0.2.0/24"  # nobody's
EVERY_HEADER = (
    b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n"
    b"X-Forwarded-Ssl: on\r\nForwarded: for=203.0.113.9;proto=https;host=evil\r\n"
)


class Recorder:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.seen.append(environ)
        start_response("200 OK", [])
        return [b"recorded"]


def request(fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return line + b"\r\nHost: inner:81\r\n" + fields + b"\r\n"


def ask(running: Running, fields: bytes, listener: int = 0) -> dict[str, str]:
    """What an application finds after four requests on one connection, in which the server's memory takes part."""
    app = running.server.application
    app.seen.clear()
    with running.client(listener) as client:
        for line in (b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"GET / HTTP/1.1"):
            client.send(request(fields, line))
            assert client.response().status == 200
        own = client.socket.getsockname()
    found = [{key: environ[key] for key in KEYS} for environ in app.seen]
    assert all(each == found[0] for each in found), found
    first = found[0]
    first["REMOTE_PORT"] = (
        "own" if isinstance(own, tuple) and first["REMOTE_PORT"] == str(own[1]) else first["REMOTE_PORT"]
    )
    return first


@pytest.mark.parametrize("allowed", [OTHERS, ""])
def test_from_others_they_change_nothing(serve: Serve, allowed: str) -> None:
    running = serve(Recorder(), forwarded_allow_ips=allowed, forwarded_parts="for,proto,host,port")
    found = ask(running, EVERY_HEADER)
    port = str(running.port)
    assert found == dict(zip(KEYS, ("127.0.0.1", "own", "http", "inner:81", port), strict=True))
    assert running.server.application.seen[0]["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("fields", "address", "port", "scheme"),
    [
        (b"", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9", "0", "http"),
        (b"X-Forwarded-For: 203.0.113.9:4711\r\n", "203.0.113.9", "4711", "http"),
        (b"X-Forwarded-For: 2001:DB8::1\r\n", "2001:db8::1", "0", "http"),
        (b"X-Forwarded-For: [2001:db8::1]:99\r\n", "2001:db8::1", "99", "http"),
        (b"X-Forwarded-For: ::ffff:203.0.113.9\r\n", "203.0.113.9", "0", "http"),
        (b"X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n", "203.0.113.9", "0", "http"),
        (b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9", "0", "http"),
        (b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.1.1 , 127.0.0.1\r\n", "203.0.113.9", "0", "http"),
        (b"X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1", "0", "http"),
        (b"X-Forwarded-For: 6.6.6.6, unknown\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-For: fe80::1%eth0\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-For: 6.6.6.6,\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-For: <script>\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-Proto: https\r\n", "127.0.0.1", "own", "https"),
        (b"X-Forwarded-Proto: HTTPS, https\r\n", "127.0.0.1", "own", "https"),
        (b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\nX-Forwarded-Proto: https,http\r\n", "203.0.113.9", "0", "https"),
        (b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\nX-Forwarded-Proto: http, https\r\n", "203.0.113.9", "0", "http"),
        (
            b"X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-Proto: https, http\r\n",
            "203.0.113.9",
            "0",
            "http",
        ),
        (
            b"Forwarded: for=203.0.113.9, for=10.0.0.1\r\nX-Forwarded-Proto: https, http\r\n",
            "203.0.113.9",
            "0",
            "https",
        ),
        (b"X-Forwarded-Proto: wss\r\n", "127.0.0.1", "own", "https"),
        (b"X-Forwarded-Proto: http\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-Proto: gopher\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-Ssl: on\r\nX-Forwarded-Proto: https\r\n", "127.0.0.1", "own", "https"),
        (b"X-Forwarded-Protocol: ssl\r\n", "127.0.0.1", "own", "https"),
        (b"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n", "127.0.0.1", "own", "http"),
        (b"Forwarded: for=203.0.113.9;proto=https;by=10.1.1.1\r\n", "203.0.113.9", "0", "https"),
        (b'Forwarded: For="[2001:db8::1]:99"; Proto=https\r\n', "2001:db8::1", "99", "https"),
        (b"Forwarded: for=6.6.6.6;proto=http, for=203.0.113.9;proto=https\r\n", "203.0.113.9", "0", "https"),
        (b"Forwarded: for=203.0.113.9;proto=https, for=10.0.0.1;proto=http\r\n", "203.0.113.9", "0", "https"),
        (b"Forwarded: for=203.0.113.9, for=_hidden;proto=https\r\n", "127.0.0.1", "own", "https"),
        (b"Forwarded: for=203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9", "0", "http"),
        (b'forwarded: for="203.0.113.9:80" ; ext="a;b,c\\"d" ; proto="https"\r\n', "203.0.113.9", "80", "https"),
        (b'Forwarded: for="[2001:db8::1]"\r\nForwarded: for=10.0.0.1\r\n', "2001:db8::1", "0", "http"),
        (b'Forwarded: for="_hidden:_port", for=10.0.0.1;proto=https\r\n', "127.0.0.1", "own", "http"),
        (b"Forwarded: for=203.0.113.9,,for=10.0.0.1\r\n", "203.0.113.9", "0", "http"),
        (b"Forwarded: , for=203.0.113.9;;proto=https; ,\t, for=10.0.0.1 ,\r\n", "203.0.113.9", "0", "https"),
        (b"Forwarded: ,\r\n", "127.0.0.1", "own", "http"),
        (b"X-Forwarded-For: 203.0.113.9:65536\r\n", "203.0.113.9", "0", "http"),
        (b'Forwarded: for="203.0.113.9:99999"\r\n', "203.0.113.9", "0", "http"),
        (b"Forwarded: for=unknown;proto=https\r\n", "127.0.0.1", "own", "https"),
        (b'Forwarded: for="127.0.0.1"\r\n', "127.0.0.1", "0", "http"),
    ],
)
def test_from_a_trusted_peer(serve: Serve, fields: bytes, address: str, port: str, scheme: str) -> None:
    running = serve(Recorder(), forwarded_allow_ips="127.0.0.1, 10.0.0.0/8")
    found = ask(running, fields)
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"], found["wsgi.url_scheme"]) == (address, port, scheme)
    assert (found["HTTP_HOST"], found["SERVER_PORT"]) == ("inner:81", str(running.port))


@pytest.mark.parametrize(
    ("fields", "host", "port"),
    [
        (b"X-Forwarded-Host: outer\r\n", "outer", None),
        (b"X-Forwarded-Host: evil, outer:8443\r\n", "outer:8443", None),
        (b"X-Forwarded-Port: 8443\r\n", "inner:8443", "8443"),
        (b"X-Forwarded-Host: outer\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\n", "outer", "443"),
        (b"X-Forwarded-Host: outer:1\r\nX-Forwarded-Port: 443\r\n", "outer:443", "443"),
        (b'Forwarded: host="outer:1";proto=https\r\n', "outer:1", None),
        (b"X-Forwarded-Host: [::1]\r\nX-Forwarded-Port: 81\r\n", "[::1]:81", "81"),
    ],
)
def test_host_and_port_where_they_are_asked_for(serve: Serve, fields: bytes, host: str, port: str | None) -> None:
    running = serve(Recorder(), forwarded_parts="proto,host,port")
    found = ask(running, fields + b"X-Forwarded-For: 203.0.113.9\r\n")
    assert (found["HTTP_HOST"], found["SERVER_PORT"]) == (host, port or str(running.port))
    assert found["REMOTE_ADDR"] == "127.0.0.1"  # "for" is not among the parts


@pytest.mark.parametrize(
    "fields",
    [
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n",
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
        b"X-Forwarded-Proto: http,https\r\n",
        b"X-Forwarded-Protocol: ssl\r\nX-Forwarded-Proto: http\r\n",
        b"X-Forwarded-Proto: https\r\nForwarded: proto=http\r\n",
        b"X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.8\r\n",
        b"X-Forwarded-Host: one\r\nForwarded: host=two\r\n",
        b"X-Forwarded-Host: a b\r\n",
        b"X-Forwarded-Host: a/b\r\n",
        b"X-Forwarded-Port: -1\r\n",
        b"X-Forwarded-Port: 65536\r\n",
        b"X-Forwarded-Host: one:99999\r\n",
        b"X-Forwarded-For: 203.0.113.9, 127.0.0.1, 127.0.0.1\r\nX-Forwarded-Proto: http,https\r\n",
        b"Forwarded: for\r\n",
        b"Forwarded: for=1.2.3.4;for=1.2.3.5\r\n",
        b'Forwarded: for="1.2.3.4\r\n',
        b"Forwarded: for=1.2.3.4 proto=https\r\n",
    ],
)
def test_what_contradicts_itself_is_400(serve: Serve, caplog: pytest.LogCaptureFixture, fields: bytes) -> None:
    caplog.set_level("INFO")
    app = Recorder()
    running = serve(app, forwarded_parts="for,proto,host,port")
    for _ in range(3):
        response = running.ask(request(fields))
        assert response.status == 400 and response.closes
        assert response.body == b"the forwarded headers are malformed or contradict each other\n"
    assert app.seen == []
    assert len(awaited_lines(caplog)) == 1 and caplog.records[0].levelname == "INFO"
    untrusting = serve(app, forwarded_allow_ips=OTHERS, forwarded_parts="for,proto,host,port")
    assert untrusting.ask(request(fields)).status == 200


@pytest.mark.parametrize("allowed", [None, "unix", f"{OTHERS},unix", "*"])
def test_peers_of_a_unix_socket_count(serve: Serve, tmp_path: Path, allowed: str | None) -> None:
    settings = {} if allowed is None else {"forwarded_allow_ips": allowed}
    running = serve(Recorder(), listener=f"unix:{tmp_path / 'socket'}", **settings)
    found = ask(running, b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n")
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("203.0.113.9", "https")
    assert ask(running, b"")["REMOTE_ADDR"] == ""


@pytest.mark.parametrize("allowed", ["", OTHERS, "0.0.0.0/0,::/0"])
def test_peers_of_a_unix_socket_count_not_where_they_are_not_listed(serve: Serve, tmp_path: Path, allowed: str) -> None:
    running = serve(Recorder(), listener=f"unix:{tmp_path / 'socket'}", forwarded_allow_ips=allowed)
    assert ask(running, b"X-Forwarded-Proto: https\r\n")["wsgi.url_scheme"] == "http"


def test_peers_of_an_address_count_not_where_only_unix_sockets_do(serve: Serve) -> None:
    running = serve(Recorder(), forwarded_allow_ips="unix")
    assert ask(running, b"X-Forwarded-Proto: https\r\n")["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("listener", "source", "allowed", "counts"),
    [
        ("[::1]:0", "", "::1", True),
        ("[::1]:0", "", "127.0.0.1", False),
        ("[::1]:0", "", "*", True),
        ("[::1]:0", "", "::/64", True),
        ("[::1]:0", "", "fe80::/10", False),
        ("127.0.0.1:0", "127.0.0.64", "127.0.0.64/26", True),
        ("127.0.0.1:0", "127.0.0.63", "127.0.0.64/26", False),
        ("127.0.0.1:0", "127.0.0.63", "192.0.2.1, ::1, 127.0.0.63", True),
    ],
)
def test_who_is_listed_counts_and_nobody_else(
    serve: Serve, listener: str, source: str, allowed: str, counts: bool
) -> None:
    if listener.startswith("[") and not has_ipv6():
        pytest.skip("no IPv6 here")
    running = serve(Recorder(), listener=listener, forwarded_allow_ips=allowed)
    with running.connect(running.addresses[0], source) as client:
        own = client.socket.getsockname()[0]
        for _ in range(3):
            client.send(request(b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"))
            assert client.response().status == 200
    seen = [(each["REMOTE_ADDR"], each["wsgi.url_scheme"]) for each in running.server.application.seen]
    assert seen == [("203.0.113.9", "https") if counts else (own, "http")] * 3


def test_everybody_counts_with_an_asterisk(serve: Serve) -> None:
    running = serve(Recorder(), forwarded_allow_ips="*")
    assert ask(running, b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\n")["REMOTE_ADDR"] == "203.0.113.9"


def test_one_block_means_different_things_from_different_peers(serve: Serve) -> None:
    """The same bytes from a trusted and from another peer: what is remembered of one must not serve the other."""
    app = Recorder()
    running = serve(app, listener="0.0.0.0:0", forwarded_allow_ips="127.0.0.2")
    fields = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
    port = running.addresses[0][1]
    with (
        running.connect(("127.0.0.1", port), "127.0.0.2") as trusted,
        running.connect(("127.0.0.1", port), "127.0.0.3") as other,
    ):
        for turn in range(8):
            for client, expected in ((trusted, ("203.0.113.9", "https")), (other, ("127.0.0.3", "http"))):
                for plain in range(turn % 3):
                    client.send(request(b"X-Plain: %d\r\n" % plain))
                    client.response()
                    assert app.seen[-1]["wsgi.url_scheme"] == "http"
                client.send(request(fields))
                client.response()
                assert (app.seen[-1]["REMOTE_ADDR"], app.seen[-1]["wsgi.url_scheme"]) == expected


def test_one_proxy_speaks_for_many_clients_on_one_connection(serve: Serve) -> None:
    app = Recorder()
    with serve(app).client() as client:
        for _ in range(3):
            for number in range(20):
                client.send(request(b"X-Forwarded-For: 203.0.113.%d\r\n" % number))
                client.response()
                assert app.seen[-1]["REMOTE_ADDR"] == f"203.0.113.{number}"
            client.send(request(b""))
            client.response()
            assert app.seen[-1]["REMOTE_ADDR"] == "127.0.0.1"


def test_what_an_application_changes_stays_in_its_environ(serve: Serve) -> None:
    schemes: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        schemes.append(environ["wsgi.url_scheme"] + environ["REMOTE_ADDR"])
        environ["wsgi.url_scheme"] = environ["REMOTE_ADDR"] = environ["HTTP_X_FORWARDED_PROTO"] = "spoiled"
        start_response("200 OK", [])
        return [b""]

    with serve(app).client() as client:
        for _ in range(4):
            client.send(request(b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"))
            client.response()
    assert schemes == ["https203.0.113.9"] * 4


def test_a_full_memory_forgets_who_was_forwarded(serve: Serve) -> None:
    """Slots of the memory change their blocks: with and without these headers."""
    app = Recorder()
    with serve(app).client() as client:
        for number in range(3000):
            fields = b"X-Number: %d\r\n" % number
            if number % 2:
                fields += b"X-Forwarded-For: 203.0.113.9\r\n"
            client.send(request(fields) * 2)
            for _ in range(2):
                client.response()
            addresses = [environ["REMOTE_ADDR"] for environ in app.seen]
            assert addresses == ["203.0.113.9" if number % 2 else "127.0.0.1"] * 2
            app.seen.clear()
