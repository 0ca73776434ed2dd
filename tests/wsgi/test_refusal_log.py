"""What is told of refused requests: every one in the access log, and not too many lines about them in the other."""

import io
import logging
import time
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.logs.peer_notices import MOST_LINES, MOST_PEERS, PAUSE, PeerNotices
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.joining import sleep
from streamserve.settings import Settings
from streamserve.sync.event import Event
from streamserve.wsgi import WSGIServer
from tests.support.client import Client
from tests.support.logs import awaited_lines
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

BAD = b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"
GOOD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
TARGET = "the request target has bytes or a form that are not allowed"


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    data = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [data]


class Clock:
    """Time that stands until a test moves it; counts what was asked to be called later."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.scheduled = 0

    def __call__(self) -> float:
        return self.now

    def schedule(self) -> None:
        self.scheduled += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices(clock: Clock, caplog: pytest.LogCaptureFixture) -> PeerNotices:
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    return PeerNotices(clock.schedule, clock)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


class TestNotices:
    def test_the_first_refusal_of_an_address_is_told_at_once(
        self, notices: PeerNotices, caplog: pytest.LogCaptureFixture
    ) -> None:
        notices.note("192.0.2.1", logging.INFO, "was bad")
        notices.note("192.0.2.2", logging.WARNING, "was worse")
        assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
        assert said(caplog) == ["192.0.2.1 was bad", "192.0.2.2 was worse"]

    def test_a_noisy_client_does_not_hide_another(self, notices: PeerNotices, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(1000):
            notices.note("192.0.2.1", logging.INFO, "was bad")
        notices.note("192.0.2.2", logging.INFO, "was bad too")
        assert said(caplog) == ["192.0.2.1 was bad", "192.0.2.2 was bad too"]

    def test_what_was_left_out_is_told_when_the_flood_ends(
        self, notices: PeerNotices, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(1001):
            notices.note("192.0.2.1", logging.INFO, f"was bad {number}")
        notices.sweep()
        assert said(caplog) == ["192.0.2.1 was bad 0"]
        clock.now += PAUSE
        notices.sweep()
        assert said(caplog) == ["192.0.2.1 1000 more requests refused since the last such line; the last: was bad 1000"]
        clock.now += PAUSE
        notices.sweep()
        assert said(caplog) == []

    def test_sweeps_end_when_there_is_nothing_to_tell(self, notices: PeerNotices, clock: Clock) -> None:
        notices.note("192.0.2.1", logging.INFO, "was bad")
        notices.note("192.0.2.1", logging.INFO, "was bad")
        assert clock.scheduled == 1
        notices.sweep()
        assert clock.scheduled == 2
        for _ in range(2):
            clock.now += PAUSE
            notices.sweep()
        assert clock.scheduled == 3
        notices.note("192.0.2.1", logging.INFO, "was bad")
        assert clock.scheduled == 4

    def test_many_addresses_are_bounded_in_lines_and_in_memory(
        self, notices: PeerNotices, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(3 * MOST_PEERS):
            notices.note(f"192.0.{number >> 8}.{number & 255}", logging.INFO, "was bad")
        assert len(said(caplog)) == MOST_LINES
        clock.now += 1
        notices.sweep()
        rest = 3 * MOST_PEERS - MOST_LINES
        assert said(caplog) == [
            f"other addresses: {rest} more requests refused since the last such line; the last: was bad"
        ]
        for number in range(10 * MOST_PEERS):
            clock.now += 0.001
            notices.note(f"198.51.{number >> 8}.{number & 255}", logging.INFO, "was bad")
            assert len(notices._peers) <= MOST_PEERS

    def test_lines_of_counts_are_bounded_too(
        self, notices: PeerNotices, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(5 * MOST_LINES):
            clock.now += 0.1
            notices.note(f"192.0.2.{number}", logging.INFO, "was bad")
            notices.note(f"192.0.2.{number}", logging.INFO, "was bad")
        assert len(said(caplog)) == 5 * MOST_LINES
        clock.now += PAUSE
        notices.sweep()
        assert len(said(caplog)) == MOST_LINES
        for _ in range(5):
            clock.now += 1
            notices.sweep()
        assert len(said(caplog)) == 4 * MOST_LINES

    def test_closing_tells_what_is_left_in_few_lines(
        self, notices: PeerNotices, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(3 * MOST_LINES):
            clock.now += 0.2
            for _ in range(3):
                notices.note(f"192.0.2.{number}", logging.INFO, "was bad")
        caplog.clear()
        clock.now += 1
        notices.close()
        lines = said(caplog)
        assert len(lines) == MOST_LINES + 1
        assert lines[-1].startswith(f"other addresses: {2 * 2 * MOST_LINES} more requests refused")


# ---- through the server


def test_every_refused_request_is_in_the_access_log(serve: Serve) -> None:
    stream = io.StringIO()
    running = serve(app, log=stream, max_request_line=100, max_header_fields=3, max_body_bytes=10)
    for request, status, asked in (
        (BAD, 400, r"GET /\xff HTTP/1.1"),
        (b"GET /" + b"x" * 100 + b" HTTP/1.1\r\n", 414, "GET /" + "x" * 100 + " HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", 431, "GET / HTTP/1.1"),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "GET / HTTP/2.0"),
        (b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n x\r\n\r\n", 400, "GET /a HTTP/1.1"),
        (b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", 413, "POST /b HTTP/1.1"),
        (b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "POST /c HTTP/1.1"),
        (b'no "request" line\r\n\r\n', 400, r"no \x22request\x22 line"),
        (b"one two three four\r\n", 400, "one two three four"),
        (b"\x00\x1b[31m" + b"x" * 2000 + b"\r\n", 400, r"\x00\x1b[31m" + "x" * 506),
    ):
        response = running.ask(request)
        line = eventually(stream.getvalue, "a line")
        assert response.status == status
        assert line.startswith("127.0.0.1 - - [")
        assert line.endswith(f'] "{asked}" {status} {len(response.body)} "-" "-"\n')
        stream.truncate(0)
        stream.seek(0)


def test_a_header_name_that_python_refuses_is_in_both_logs(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    stream = io.StringIO()
    running = serve(app, log=stream, underscore_headers="refuse")
    assert running.ask(b"GET / HTTP/1.1\r\nHost: h\r\nA_b: 1\r\n\r\n").status == 400
    assert '"GET / HTTP/1.1" 400 ' in eventually(stream.getvalue, "a line")
    assert awaited_lines(caplog) == ["127.0.0.1 refused with 400: the header name 'A_b' has an underscore"]


def test_a_refusal_names_its_limit_and_the_client(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the connection is closed before anybody asks who it was."""
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    stream = io.StringIO()
    running = serve(app, log=stream, max_connections=1)
    first = running.client()
    first.send(GOOD)
    first.response()
    assert running.client().response().status == 503
    assert eventually(lambda: said(caplog), "a line") == [
        "127.0.0.1 refused with 503: the server is at its limit of connections or requests (max_connections=1)"
    ]
    lines = eventually(lambda: (text := stream.getvalue()).count("\n") == 2 and text.splitlines(), "two lines")
    assert lines[1].startswith("127.0.0.1 - - [") and '"-" 503 ' in lines[1]


def test_a_broken_body_is_told_with_its_reason(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    stream = io.StringIO()
    running = serve(app, log=stream, buffered_body=0)
    request = b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n"
    assert running.ask(request).status == 400
    reason = "127.0.0.1 refused with 400: a chunk's size, extension or line end is malformed or too long"
    assert eventually(lambda: said(caplog), "a line") == [reason]
    assert '"POST /up HTTP/1.1" 400 ' in eventually(stream.getvalue, "a line")


def test_a_flood_is_few_lines_and_its_count_is_told_at_the_end(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    running = serve(app)
    for _ in range(50):
        assert running.ask(BAD).status == 400
    assert said(caplog) == [f"127.0.0.1 refused with 400: {TARGET}"]
    running.stop(0).result(60)
    running.join()
    assert said(caplog) == [
        f"127.0.0.1 49 more requests refused since the last such line; the last: refused with 400: {TARGET}"
    ]


def beside(running: Running, log: Any, **settings: Any) -> WSGIServer:
    """A second server on the same hub."""

    def start() -> WSGIServer:
        server = WSGIServer("127.0.0.1:0", app, log=log, settings=Settings(**settings))
        server.start()
        return server

    server: WSGIServer = running.call(start)
    return server


def test_servers_of_one_hub_log_their_own_refusals(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """And one that is closed takes nothing of the others with it."""
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    logs = io.StringIO(), io.StringIO()
    running = serve(app, log=logs[0], max_header_fields=3)
    second = beside(running, logs[1], max_header_fields=2)
    running.call(beside(running, None).close)
    for server, log, limit in ((running.server, logs[0], 3), (second, logs[1], 2)):
        with Client(server.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n")
            assert client.response().status == 431
        assert '"GET / HTTP/1.1" 431 ' in eventually(log.getvalue, "a line")
        text = "127.0.0.1 refused with 431: the request head has more fields than the limit"
        assert eventually(lambda: said(caplog), "a line") == [f"{text} (max_header_fields={limit})"]
    eventually(lambda: [log.getvalue().count("\n") for log in logs] == [1, 1], "a line in each")
    running.call(second.close)


def test_an_endpoint_that_fails_takes_no_request_of_another_server(serve: Serve) -> None:
    """Both requests are of one poll; the first listener's endpoint raises."""
    running = serve(app)
    second = beside(running, None)
    reported, running.errors = running.errors, io.StringIO()
    (first_number, first), (second_number, other) = (
        next(iter(server._endpoints.items())) for server in (running.server, second)
    )
    served: list[int] = []

    def fail(words: list[int], count: int) -> None:
        raise RuntimeError("no memory")

    def admit_both() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(first, "requests", fail)
            patch.setattr(other, "requests", lambda words, count: served.append(words[1]))
            running.hub._loop._admit(running.hub, [first_number, 1, 0, 0, second_number, 2, 0, 0], 2)

    running.call(admit_both)
    assert served == [2]
    assert "no memory" in reported.getvalue()
    running.call(second.close)
    assert running.ask(GOOD).status == 200


def test_a_request_that_cannot_be_admitted_is_reported_and_the_server_goes_on(serve: Serve) -> None:
    running = serve(app)
    reported, running.errors = running.errors, io.StringIO()
    endpoint = next(iter(running.server._endpoints.values()))

    def fail(words: list[int], count: int) -> None:
        del endpoint.requests  # type: ignore[method-assign]
        lib.ss_conn_abort(running.hub.core, words[1], 0)
        raise RuntimeError("no memory")

    endpoint.requests = fail  # type: ignore[method-assign]
    with running.client() as client:
        client.send(GOOD)
        assert client.ended()
    eventually(lambda: "no memory" in reported.getvalue(), "it was reported")
    assert running.ask(GOOD).status == 200


def test_a_refusal_in_the_poll_of_a_timer_does_not_take_its_place(serve: Serve) -> None:
    """The first refusal starts a timer; one that fires in the same poll has left its slot to it already."""
    gate = Event()
    running = serve(
        lambda environ, start_response: [gate.wait(60)] and app(environ, start_response), concurrency=1, queue=0
    )
    woken: list[int] = []

    def refused_while_asleep(holder: Client, client: Client) -> None:
        holder.send(GOOD)  # holds the only place
        while not gate.linkcount():
            sleep(0.001)
        for number in range(20):
            Greenlet.spawn(lambda number=number: (sleep(0.001), woken.append(number)))
        sleep(0)  # they all sleep
        client.send(GOOD)
        time.sleep(0.01)  # the loop stands still: their time and the request come in one poll

    holder, client = running.client(), running.client()
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 2, "they are accepted")
    running.spawn(refused_while_asleep, holder, client).result(60)
    assert client.response().status == 503
    eventually(lambda: len(woken) == 20, "all of them woke")
    gate.set()
    assert holder.response().status == 200
