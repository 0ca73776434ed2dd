"""The configurations of docs/behind-a-proxy.md, in the real programs: who the client is, whatever it says of itself."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.servers.proxies import Apache, Haproxy, Nginx, Proxy, blocks
from tests.wsgi.conftest import Serve

pytestmark = pytest.mark.foreign

KEYS = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST")
CLIENT = "127.0.0.2"  # whom nobody trusts: only 127.0.0.1 and ::1 are among the defaults
LIES = (
    b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6;proto=https;host=evil\r\n"
    b"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n"
)


def tell(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    environ["wsgi.input"].read()
    return [json.dumps({key: environ[key] for key in KEYS}).encode()]


def request(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> bytes:
    return line + b"\r\nHost: site.example\r\n" + fields + b"\r\n"


@pytest.fixture(params=["nginx", "apache", "haproxy http", "haproxy tcp"])
def way(request: pytest.FixtureRequest) -> tuple[type[Proxy], str, dict[str, str]]:
    """The program, its configuration, and the settings that go with it."""
    http, tcp = blocks("haproxy")
    return {
        "nginx": (Nginx, blocks("nginx")[0], {}),
        "apache": (Apache, blocks("apache")[0], {}),
        "haproxy http": (Haproxy, http, {}),
        "haproxy tcp": (Haproxy, tcp, {"proxy_protocol": "on"}),
    }[request.param]


@pytest.fixture
def proxy(way: tuple[type[Proxy], str, dict[str, str]], serve: Serve) -> Iterator[Proxy]:
    kind, block, settings = way
    running = serve(tell, **settings)
    with kind(block, running.port) as proxy:
        yield proxy


@pytest.mark.parametrize("fields", [b"", LIES], ids=["honest", "lying"])
def test_the_client_is_the_client_whatever_it_says(proxy: Proxy, fields: bytes) -> None:
    with Client(("127.0.0.1", proxy.port), source=CLIENT) as client:
        for line in (b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"DELETE / HTTP/1.1", b"GET / HTTP/1.1"):
            client.send(request(fields, line))
            told = json.loads(client.response().body)
            port = str(client.socket.getsockname()[1])
            assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == (CLIENT, "http")
            assert told["REMOTE_PORT"] in ("0", port)  # X-Forwarded-For has no port
            assert told["HTTP_HOST"] == "site.example"


def test_clients_that_share_connections_of_the_proxy_are_told_apart(proxy: Proxy) -> None:
    for number in (2, 3, 2, 4, 2):
        with Client(("127.0.0.1", proxy.port), source=f"127.0.0.{number}") as client:
            client.send(request())
            assert json.loads(client.response().body)["REMOTE_ADDR"] == f"127.0.0.{number}"


def test_bodies_pass(proxy: Proxy) -> None:
    with Client(("127.0.0.1", proxy.port), source=CLIENT) as client:
        for field, body in (
            (b"Content-Length: 100000\r\n", b"x" * 100_000),
            (b"Transfer-Encoding: chunked\r\n", b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n"),
        ):
            client.send(request(field, b"POST / HTTP/1.1") + body)
            assert json.loads(client.response().body)["REMOTE_ADDR"] == CLIENT
