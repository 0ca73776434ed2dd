"""Handlers that raise, are killed or time out; the access log. The server lives on."""

import io
import logging
import re
from typing import Any

import pytest
from greenlet import GreenletExit

from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.timeout import Timeout
from streamserve.loop.waiting import kill, sleep
from tests.support.client import Truncated
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
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == (0 if isinstance(error, GreenletExit) else 1)
    assert all(record.getMessage().endswith(" at GET /") for record in tracebacks)
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


# ---- the access log

LINE = re.compile(r'(\S+) - - \[[^]]+\] "(.*)" (\d{3}) (\d+|-) "(.*)" "(.*)" \d+\.\d{6}')


def test_a_line_for_each_response(serve: Serve) -> None:
    stream = io.StringIO()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/raise":
            raise ValueError
        start_response("404 Not Found", [])
        if environ["PATH_INFO"] == "/write":
            start_response.__self__.write(b"12345")
            return []
        return iter([b"abc", b"defg"])

    running = serve(app, log=stream)
    with running.client() as client:
        for path in (b"/stream?q", b"/write", b"/raise"):
            client.send(b"GET %b HTTP/1.1\r\nHost: h\r\nReferer: http://r/\r\nUser-Agent: me\r\n\r\n" % path)
            client.response()
    lines = eventually(lambda: (lines := stream.getvalue().splitlines()) and len(lines) == 3 and lines, "three lines")
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    groups = [match.groups() for match in found if match]
    assert groups == [
        ("127.0.0.1", "GET /stream?q HTTP/1.1", "404", "7", "http://r/", "me"),
        ("127.0.0.1", "GET /write HTTP/1.1", "404", "5", "http://r/", "me"),
        ("127.0.0.1", "GET /raise HTTP/1.1", "500", "22", "http://r/", "me"),
    ]


def test_what_clients_choose_is_escaped(serve: Serve) -> None:
    stream = io.StringIO()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        environ["REMOTE_ADDR"] = environ["HTTP_X_FORWARDED_FOR"]  # what a proxy fix does
        return [b""]

    running = serve(app, log=stream)
    running.ask(
        b'GET /"\\x1b HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1" \xff\r\n'
        b'User-Agent: a"b\\c\t\x9b31m\xff\r\nReferer: "\r\n\r\n'
    )
    line = eventually(stream.getvalue, "a line")
    assert line.isascii() and line.count("\n") == 1
    assert '"GET /\\x22\\x5cx1b HTTP/1.1"' in line
    assert '"\\x22" "a\\x22b\\x5cc\\x09\\x9b31m\\xff"' in line
    assert line.startswith("1.1.1.1\\x22 \\xff - - [")


@pytest.mark.parametrize("spoil", ["clear", "none", "numbers"])
def test_an_environ_that_the_application_spoiled_harms_nobody(serve: Serve, spoil: str) -> None:
    stream = io.StringIO()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        if spoil == "clear":
            environ.clear()
        for name in list(environ):
            environ[name] = None if spoil == "none" else 5
        return [b"served"]

    running = serve(app, log=stream, concurrency=2, queue=1)
    with running.client() as client:
        for _ in range(10):
            client.send(GET)
            assert client.response().body == b"served"
    eventually(lambda: len(stream.getvalue().splitlines()) == 10, "ten lines")


def test_a_log_that_cannot_be_written_harms_nobody(serve: Serve) -> None:
    class Broken:
        def write(self, text: str) -> None:
            raise OSError("disk full")

    running = serve(raising(ValueError()), log=Broken())
    reported, running.errors = running.errors, io.StringIO()
    with running.client() as client:
        for _ in range(5):
            client.send(GET.replace(b"/ ", b"/fine "))
            assert client.response().body == b"fine"
    eventually(lambda: "disk full" in reported.getvalue(), "it was reported")
