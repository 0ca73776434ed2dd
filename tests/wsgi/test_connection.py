"""Keep-alive, pipelining, half-close, 100-continue: points 34 to 37 of the promises."""

import threading
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.loop.joining import sleep
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["RAW_URI"].encode() + b" " + environ["wsgi.input"].read()]


def silent(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Never reads its body."""
    start_response("200 OK", [])
    return [b"unread"]


@pytest.mark.parametrize(
    ("version", "connection", "stays", "announced"),
    [
        ("1.1", None, True, None),
        ("1.1", "keep-alive", True, None),
        ("1.1", "close", False, "close"),
        ("1.1", "foo, Close", False, "close"),
        ("1.1", "CLOSE,keep-alive", False, "close"),
        ("1.1", "closed, unclose", True, None),
        ("1.1", "\tclose\t", False, "close"),
        ("1.0", None, False, "close"),
        ("1.0", "keep-alive", True, "keep-alive"),
        ("1.0", "x, Keep-Alive", True, "keep-alive"),
        ("1.0", "keep-alive, close", False, "close"),
    ],
)
def test_whether_the_connection_stays(
    serve: Serve, version: str, connection: str | None, stays: bool, announced: str | None
) -> None:
    field = f"Connection: {connection}\r\n" if connection else ""
    request = f"GET / HTTP/{version}\r\nHost: h\r\n{field}\r\n".encode()
    client = serve(echo).client()
    client.send(request)
    response = client.response()
    assert response.get("connection") == announced
    if stays:
        client.send(request)
        assert client.response().body == b"/ "
    else:
        assert client.ended()


def test_two_connection_fields_are_one_list(serve: Serve) -> None:
    client = serve(echo).client()
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n" + GET)
    assert client.response().closes and client.ended()


def pipeline() -> tuple[bytes, list[bytes]]:
    requests = [
        b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
        b"GET /4 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"\r\nGET /5 HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
    return b"".join(requests), [b"/1 ", b"/2 hello", b"/3 abcde", b"/4 ", b"/5 "]


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    data, answers = pipeline()
    running = serve(echo)
    with running.client() as client:
        client.send(data * 60)
        for _ in range(60):
            assert [client.response().body for _ in answers] == answers


def test_a_pipeline_may_be_cut_anywhere(serve: Serve) -> None:
    data, answers = pipeline()
    running = serve(echo)
    with running.client() as client:
        for cut in range(1, len(data)):
            client.send(data[:cut])
            client.send(data[cut:])
            assert [client.response().body for _ in answers] == answers, f"cut at {cut}"


def test_a_pipeline_byte_by_byte(serve: Serve) -> None:
    data, answers = pipeline()
    client = serve(echo).client()
    client.send_bytewise(data)
    assert [client.response().body for _ in answers] == answers


def test_the_next_request_runs_only_after_the_response(serve: Serve) -> None:
    running_now: list[int] = []
    most: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        running_now.append(1)
        most.append(len(running_now))
        start_response("200 OK", [])
        yield b"a"
        sleep(0.001)
        yield b"b"
        running_now.pop()

    client = serve(app).client()
    client.send(GET * 20)
    assert [client.response().body for _ in range(20)] == [b"ab"] * 20
    assert max(most) == 1


def test_an_endless_pipeline_does_not_keep_others_waiting(serve: Serve) -> None:
    running = serve(echo)
    greedy = running.client()
    stop = threading.Event()

    def flood() -> None:
        try:
            while not stop.is_set():
                greedy.send(GET * 100)
                for _ in range(100):
                    greedy.response()
        except OSError:
            return

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(20):
            assert running.ask(GET).body == b"/ "
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("count", [1, 3])
def test_a_client_that_half_closes_gets_its_answers(serve: Serve, count: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sleep(0.01)
        return echo(environ, start_response)

    client = serve(app).client()
    client.send(GET * count)
    client.finish()
    assert [client.response().body for _ in range(count)] == [b"/ "] * count
    assert client.ended()


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_half_close_after_a_body(serve: Serve, size: int) -> None:
    client = serve(echo).client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    client.finish()
    assert len(client.response().body) == size + 2
    assert client.ended()


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("fields", [b"", b"Expect: 100-continue\r\n"])
def test_a_half_close_within_a_body_gets_400(serve: Serve, size: int, fields: bytes) -> None:
    client = serve(echo).client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\nxxx" % (fields, size))
    client.finish()
    response = client.response()
    assert (response.status, response.closes) == (400, True)
    assert response.body == b"the peer closed the connection before the end of the request body\n"
    assert client.ended()


def test_a_half_close_before_a_streamed_response(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        for _ in range(50):
            yield b"x" * 65536

    client = serve(app).client(receive_buffer=300_000)
    client.send(GET)
    client.finish()
    assert len(client.response().body) == 50 * 65536
    assert client.ended()


@pytest.mark.parametrize("part", [b"", b"G", GET[:-1], b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nshort"])
def test_an_end_before_a_request_is_complete_ends_the_connection(serve: Serve, part: bytes) -> None:
    running = serve(echo)
    client = running.client()
    client.send(part)
    client.finish()
    data = client.rest()
    assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    assert running.server.active == 0


# ---- Expect: 100-continue

EXPECT = b"POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_100_is_sent_when_the_application_reads(serve: Serve, framing: bytes) -> None:
    body = b"hello" if b"Length" in framing else b"5\r\nhello\r\n0\r\n\r\n"
    client = serve(echo).client()
    for _ in range(2):
        client.send(EXPECT + framing)
        interim = client.response()
        assert (interim.status, interim.fields) == (100, [])
        client.send(body)
        assert client.response().body == b"/e hello"


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n\r\nh", b"Transfer-Encoding: chunked\r\n\r\n5\r\nh"])
def test_100_is_not_sent_once_bytes_of_the_body_have_come(serve: Serve, framing: bytes) -> None:
    rest = b"ello" if b"Length" in framing else b"ello\r\n0\r\n\r\n"
    client = serve(echo).client()
    client.send(EXPECT + framing)
    client.send(rest)
    assert client.response().body == b"/e hello"


def test_100_is_not_sent_when_bytes_came_before_the_read(serve: Serve) -> None:
    arrived = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        while not arrived.is_set():
            sleep(0.001)
        return echo(environ, start_response)

    running = serve(app)
    client = running.client()
    client.send(EXPECT + b"Content-Length: 5\r\n\r\n")
    eventually(lambda: running.server.active, "the application runs")
    client.send(b"hello")
    arrived.set()
    assert client.response().body == b"/e hello"


def test_a_final_answer_without_reading_closes(serve: Serve) -> None:
    client = serve(silent).client()
    client.send(EXPECT + b"Content-Length: 5\r\n\r\n")
    response = client.response()
    assert (response.status, response.closes) == (200, True)
    assert client.ended()


def test_a_streamed_answer_without_reading_says_that_it_closes(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    client = serve(app).client()
    client.send(EXPECT + b"Content-Length: 5\r\n\r\n")
    response = client.response()
    assert (response.body, response.closes) == (b"ab", True)
    assert client.ended()


def test_no_100_after_the_response_has_begun(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"begun "
        yield environ["wsgi.input"].read()

    client = serve(app).client()
    client.send(EXPECT + b"Content-Length: 5\r\n\r\n")
    head = client.head()
    assert head.status == 200 and (client.line(), client.line()) == (b"6", b"begun ")
    client.send(b"hello")
    assert head.closes
    assert client.rest() == b"5\r\nhello\r\n0\r\n\r\n"


def test_expect_without_a_body_or_in_1_0_is_ignored(serve: Serve) -> None:
    client = serve(echo).client()
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n")
    assert client.response().body == b"/ "
    client.send(EXPECT + b"Content-Length: 0\r\n\r\n")
    assert client.response().body == b"/e "
    client.send(EXPECT.replace(b"1.1", b"1.0") + b"Content-Length: 5\r\n\r\nhello")
    assert client.response().body == b"/e hello"


def test_other_expectations_are_417(serve: Serve) -> None:
    client = serve(echo).client()
    client.send(EXPECT.replace(b"100-continue", b"tea") + b"Content-Length: 5\r\n\r\nhello" + GET)
    response = client.response()
    assert response.status == 417 and response.closes and client.ended()


def test_an_idle_connection_holds_no_buffer_and_no_request(serve: Serve) -> None:
    running = serve(echo)
    clients = [running.client() for _ in range(20)]
    for client in clients:
        client.send(GET)
        client.response()
    assert running.count(lib.SS_COUNT_CONNECTIONS) == 20
    assert running.count(lib.SS_COUNT_BUFFERS) == running.count(lib.SS_COUNT_REQUESTS) == 0
