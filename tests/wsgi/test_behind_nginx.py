"""Early answers and cut responses through a real nginx with its defaults: it buffers, and speaks HTTP/1.0 to us."""

import os
import tempfile
import threading
from typing import Any

import pytest

from streamserve.loop.joining import sleep
from tests.support.client import Client
from tests.support.servers.proxies import Nginx
from tests.wsgi.conftest import Serve

pytestmark = pytest.mark.foreign

SITE = "server {{ listen 80; client_max_body_size 100m; location / {{ proxy_pass http://127.0.0.1:8000; {} }} }}"
MEGABYTE = 1 << 20
CHUNKED = "proxy_http_version 1.1;"


def upload(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


@pytest.mark.parametrize("extra", ["", CHUNKED, "proxy_request_buffering off;"])
@pytest.mark.parametrize("refused", [False, True])
def test_an_early_answer_arrives(serve: Serve, extra: str, refused: bool) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("401 Unauthorized", [])
        return [b"no"]

    running = serve(app, max_body_bytes=MEGABYTE if refused else 0)
    with Nginx(SITE.format(extra), running.port) as nginx:
        for size in (3 * MEGABYTE, 20 * MEGABYTE) * 5:
            with Client(("127.0.0.1", nginx.port)) as client:
                client.send(upload(size))
                assert client.response().status == (413 if refused else 401)


@pytest.mark.skipif(os.geteuid() != 0, reason="nginx would run as the user of the server")
@pytest.mark.parametrize(("settings", "status"), [({}, 200), ({"socket_mode": "0755"}, 502)])
def test_a_unix_socket_lets_nginx_in_as_it_is_made(serve: Serve, settings: dict[str, str], status: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"through nginx"]

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        serve(app, listener=f"unix:{folder}/socket", **settings)
        with (
            Nginx(f"server {{ listen 80; location / {{ proxy_pass http://unix:{folder}/socket; }} }}", 0) as nginx,
            Client(("127.0.0.1", nginx.port)) as client,
        ):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.response().status == status


def test_a_chunked_body_that_passes_through_has_a_length(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [])
        return [data]

    running = serve(app)
    with Nginx(SITE.format(CHUNKED + "proxy_request_buffering off;"), running.port) as nginx:
        for size in (1, 300_000, MEGABYTE):
            with Client(("127.0.0.1", nginx.port)) as client:
                head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))
                assert client.response().body == b"x" * size


@pytest.mark.parametrize("extra", ["", CHUNKED])
@pytest.mark.parametrize("fails", [False, True])
def test_a_cut_response_is_not_taken_for_the_whole(serve: Serve, extra: str, fails: bool) -> None:
    cut = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"x" * 25_000
        while not cut.is_set():
            sleep(0.002)
        if fails:
            raise ValueError("in the middle")
        yield b"x" * 35_000

    running = serve(app)
    with (
        Nginx(SITE.format(extra + "proxy_buffering off;"), running.port) as nginx,
        Client(("127.0.0.1", nginx.port)) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        while len(client.buffer) < 25_000:
            assert client._more()
        if fails:
            cut.set()
        else:
            running.stop(0.01)
        try:
            assert not client.rest().endswith(b"0\r\n\r\n")
        except ConnectionResetError:
            pass
        finally:
            cut.set()
    if not fails:
        running.join()
