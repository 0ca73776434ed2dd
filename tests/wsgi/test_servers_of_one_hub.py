"""Several servers on one hub: what happens to one of them is nothing to the others."""

import io
import logging
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.loop.waiter import Waiter
from streamserve.settings import Settings
from streamserve.wsgi import WSGIServer
from tests.support.client import Client
from tests.support.logs import log_with
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
FOUR_FIELDS = b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["SERVER_PORT"].encode()]


def beside(running: Running, **settings: Any) -> WSGIServer:
    """A second server on the same hub."""

    def start() -> WSGIServer:
        server = WSGIServer("127.0.0.1:0", app, log=None, settings=Settings(**settings))
        server.start()
        return server

    server: WSGIServer = running.call(start)
    return server


def refused(server: WSGIServer, source: str, caplog: pytest.LogCaptureFixture) -> str:
    """What is logged of a request with four fields from this address, which no other request came from."""
    with Client(server.address, source=source) as client:
        client.send(FOUR_FIELDS)
        assert client.response().status == 431

    (line,) = [line for line in log_with(caplog, source).splitlines() if line.startswith(source)]
    return line


def test_each_names_its_own_limit_also_when_another_one_was_closed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    running = serve(app, max_header_fields=3)
    servers = [running.server, beside(running, max_header_fields=2), beside(running, max_header_fields=1)]
    for number, server in enumerate(servers):
        assert f"(max_header_fields={3 - number})" in refused(server, f"127.0.1.{number}", caplog)
    running.call(servers[2].close)
    for number, server in enumerate(servers[:2]):
        assert f"(max_header_fields={3 - number})" in refused(server, f"127.0.2.{number}", caplog)
    running.call(servers[1].close)
    assert "(max_header_fields=3)" in refused(servers[0], "127.0.3.1", caplog)


def test_an_endpoint_that_raises_takes_neither_a_timer_nor_a_request_of_its_poll(serve: Serve) -> None:
    running = serve(app)
    others = [beside(running) for _ in range(2)]
    reported, running.errors = running.errors, io.StringIO()
    broken = next(iter(running.server._endpoints.values()))
    clients = [Client(server.address) for server in (others[0], running.server, others[1])]
    for client in clients:
        client.send(GET)
        assert client.response().status == 200

    def fail(words: list[int], count: int) -> None:
        lib.ss_conn_abort(running.hub.core, words[1], 0)
        raise RuntimeError("no memory")

    def all_in_one_poll() -> None:
        waiter = Waiter(running.hub)
        for client in clients:
            client.send(GET)
        running.hub.start_timer(0, waiter)
        waiter.park()

    broken.requests = fail  # type: ignore[method-assign]
    running.spawn(all_in_one_poll).result(60)
    assert [clients[place].response().status for place in (0, 2)] == [200, 200]
    assert clients[1].ended()
    eventually(lambda: reported.getvalue().count("RuntimeError: no memory") == 1, "its error was reported")
    del broken.requests  # type: ignore[method-assign]
    assert running.ask(GET).status == 200
    for server in others:
        running.call(server.close)
    for client in clients:
        client.close()
