"""Handlers that raise, are killed or time out. The server lives on."""

import io
import logging
from typing import Any

import pytest
from greenlet import GreenletExit

from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.joining import kill, sleep
from streamserve.loop.timeout import Timeout
from tests.support.client import Truncated
from tests.support.logs import tracebacks
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def raising(error: BaseException) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/fine":
            start_response("200 OK", [])
            return [b"fine"]
        raise error

    return app


@pytest.mark.parametrize(
    "error", [ValueError("wrong"), Timeout(1), GreenletExit(), SystemExit(3), RecursionError(), MemoryError()]
)
@pytest.mark.parametrize("log", [False, True])
def test_a_handler_that_raises_is_500_and_one_traceback(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: BaseException, log: bool
) -> None:
    running = serve(raising(error), log=io.StringIO() if log else None)
    with running.client() as client:
        client.send(GET)
        response = client.response()
        assert (response.status, response.body, response.closes) == (500, b"Internal Server Error\n", False)
        client.send(GET.replace(b"/ ", b"/fine "))
        assert client.response().body == b"fine"
    silent = isinstance(error, GreenletExit)
    told = tracebacks(caplog, 0 if silent else 1)
    assert len(told) == (0 if silent else 1)
    assert all(record.getMessage().endswith(" at GET /") for record in told)
    assert b"wrong" not in response.body


def test_head_and_post_that_raise(serve: Serve) -> None:
    running = serve(raising(ValueError()))
    with running.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response("HEAD").status == 500
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" + GET)
        assert [client.response().status for _ in range(2)] == [500, 500]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("end", [GreenletExit, Timeout, KeyError])
def test_a_handler_that_is_killed_while_it_waits(serve: Serve, begun: bool, end: Any) -> None:
    waiting: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [])
        if begun:
            write(b"begun")
        waiting.append(getcurrent())
        sleep(30)
        return [b"never"]

    running = serve(app)
    client = running.client()
    client.send(GET)
    eventually(lambda: waiting, "the handler waits")
    running.call(
        lambda: kill(waiting[0], end()) if isinstance(waiting[0], Greenlet) else interrupt(running, waiting, end)
    )
    if begun:
        with pytest.raises(Truncated):
            client.response()
    else:
        assert client.response().status == 500


def interrupt(running: Any, waiting: list[Any], end: Any) -> None:
    running.hub.interrupt(waiting[0], end())


def test_a_timeout_within_a_handler(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with Timeout(0.02, False):
            environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"gave up"]

    client = serve(app).client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nsome")
    response = client.response()
    assert response.body == b"gave up"
    client.finish()
    client.rest()


def test_many_failures_leave_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    running = serve(raising(ValueError()), concurrency=2)
    with running.client() as client:
        for _ in range(50):
            client.send(GET)
            assert client.response().status == 500
