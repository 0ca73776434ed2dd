"""How the end of a response is told, and what happens to iterables: points 40 to 45, PEP 3333."""

import io
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.support.client import Truncated
from tests.support.logs import awaited_lines, log_with
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

HOST = b"Host: h\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
HEAD = b"HEAD / HTTP/1.1\r\n" + HOST
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


class Closing:
    """An iterable that counts how often it was closed."""

    def __init__(self, pieces: Any) -> None:
        self.pieces = pieces
        self.closed = 0

    def __iter__(self) -> Any:
        return iter(self.pieces)

    def close(self) -> None:
        self.closed += 1


def answering(body: Any, status: str = "200 OK", headers: Any = ()) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, list(headers))
        return body() if callable(body) else body

    return app


@pytest.mark.parametrize(
    "body",
    [
        [b"one"],
        [b""],
        [],
        (b"one", b"two"),
        [b"one", b"", b"two"],
        [b"x" * 65536],
        [b"x" * 65537],
        [b"x" * 300_000],
        [b"x" * 100_000, b"y" * 100_000],
        lambda: iter(()),
        lambda: iter([b""]),
        lambda: iter([b"one", b"", b"two"]),
        lambda: iter([b"x" * 200_000, b"y"]),
        lambda: Closing([b"a", b"b"]),
        lambda: io.BytesIO(b"a\nb\n"),
    ],
)
@pytest.mark.parametrize("request_head", [GET, OLD, OLD_KEPT])
def test_every_body_arrives_whole(serve: Serve, body: Any, request_head: bytes) -> None:
    expected = b"".join(body() if callable(body) else body)
    running = serve(answering(body))
    with running.client() as client:
        client.send(request_head)
        response = client.response()
        assert response.body == expected
        if request_head == GET:
            assert not response.closes
        else:
            assert response.chunks is None, "HTTP/1.0 does not know chunks"
        if response.closes:
            assert client.ended()
        else:
            client.send(request_head)
            assert client.response().body == expected


def test_one_piece_has_a_length_and_many_are_chunked(serve: Serve) -> None:
    assert serve(answering([b"one"])).ask(GET).get("content-length") == "3"
    assert serve(answering([])).ask(GET).get("content-length") == "0"
    response = serve(answering(lambda: iter([b"one", b"", b"two"]))).ask(GET)
    assert response.chunks == [b"one", b"two"]


@pytest.mark.parametrize(
    ("body", "headers", "length"),
    [
        ([b"one"], [], "3"),
        ([b"one"], [("Content-Length", "3")], "3"),
        ([], [("Content-Length", "1000")], "1000"),
        (lambda: iter([b"one", b"two"]), [], None),
        (lambda: iter([b"one"]), [("Content-Length", "3")], "3"),
        (lambda: iter([]), [], "0"),
        ([b"x" * 100_000], [], "100000"),
    ],
)
def test_head_has_the_fields_and_no_body(serve: Serve, body: Any, headers: Any, length: str | None) -> None:
    running = serve(answering(body, headers=headers))
    with running.client() as client:
        for _ in range(2):
            client.send(HEAD)
            response = client.response("HEAD")
            assert response.status == 200 and response.get("content-length") == length
            assert not response.closes
        client.finish()
        assert client.rest() == b""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", [[], [b"dropped"], lambda: iter([b"dropped", b"too"])])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "7")]])
@pytest.mark.parametrize("method", [GET, HEAD])
def test_statuses_without_a_body(
    serve: Serve, caplog: pytest.LogCaptureFixture, status: str, body: Any, headers: Any, method: bytes
) -> None:
    running = serve(answering(body, status, headers))
    with running.client() as client:
        for _ in range(2):
            client.send(method)
            response = client.response(method[:4].decode().strip())
            assert response.status == int(status[:3]) and not response.closes
            if response.status == 304 and headers:
                assert response.get("content-length") == "7"
        client.finish()
        assert client.rest() == b""
    if body and method == GET:
        assert len(awaited_lines(caplog, 2)) == 2, "one warning for each response whose body was dropped"


@pytest.mark.parametrize(
    "body",
    [
        [b"too much"],
        lambda: iter([b"too", b" much"]),
        lambda: iter([b"t", b"o", b"o", b" ", b"much"]),
        (b"too ", b"much"),
    ],
)
def test_more_than_the_length_is_cut_and_logged(serve: Serve, caplog: pytest.LogCaptureFixture, body: Any) -> None:
    running = serve(answering(body, headers=[("Content-Length", "3")]))
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            response = client.response()
            assert response.body == b"too" and not response.closes
        client.finish()
        assert client.rest() == b""
    log_with(caplog, "more than its Content-Length")


@pytest.mark.parametrize("body", [[], [b"few"], lambda: iter([b"f", b"ew"]), (b"f", b"ew"), lambda: iter([])])
def test_less_than_the_length_ends_the_connection(serve: Serve, caplog: pytest.LogCaptureFixture, body: Any) -> None:
    running = serve(answering(body, headers=[("Content-Length", "1000")]))
    client = running.client()
    client.send(GET)
    with pytest.raises(Truncated):
        client.response()
    log_with(caplog, "less than its Content-Length")


@pytest.mark.parametrize(
    ("request_head", "headers", "body"), [(GET, [("Content-Length", "4")], b"piec"), (HEAD, [], b"")]
)
def test_an_endless_body_ends_with_its_response(serve: Serve, request_head: bytes, headers: Any, body: bytes) -> None:
    bodies: list[Closing] = []

    def app(environ: dict[str, Any], start_response: Any) -> Closing:
        start_response("200 OK", headers)
        bodies.append(Closing(iter(lambda: b"piece", b"")))
        return bodies[-1]

    with serve(app).client() as client:
        for _ in range(2):
            client.send(request_head)
            assert client.response(request_head[:4].strip().decode()).body == body
        eventually(lambda: [each.closed for each in bodies] == [1, 1], "both are closed")


@pytest.mark.parametrize(
    ("request_head", "status", "headers"),
    [
        (GET, "200 OK", [("Content-Length", "5")]),
        (GET, "200 OK", [("Content-Length", "3")]),
        (HEAD, "200 OK", []),
        (HEAD, "200 OK", [("Content-Length", "9000")]),
        (GET, "204 No Content", []),
        (GET, "304 Not Modified", []),
    ],
)
@pytest.mark.parametrize("written", [False, True])
def test_a_stream_is_pulled_no_further_than_its_response_and_closed(
    serve: Serve, request_head: bytes, status: str, headers: Any, written: bool
) -> None:
    happened: list[str] = []

    def stream() -> Any:
        try:
            happened.append("first")
            yield b"piece"
            happened.append("second")  # an event stream would wait here, for ever
            yield b"more"
        finally:
            happened.append("closed")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response(status, headers)
        if written:
            write(b"piece")
        return stream()

    with serve(app).client() as client:
        for _ in range(2):
            client.send(request_head)
            client.response(request_head[:4].strip().decode())
    eventually(lambda: happened == [*([] if written else ["first"]), *([] if written else ["closed"])] * 2, "closed")


def test_a_list_that_is_longer_than_its_length_is_logged_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = serve(answering([b"x" * 70_000, b"", b"more", b"and more"], headers=[("Content-Length", "70000")]))
    assert running.ask(GET).body == b"x" * 70_000
    assert "more than its Content-Length; 12 bytes" in log_with(caplog, "more than its Content-Length")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("piece", ["text", 5, None, bytearray(b"x"), memoryview(b"x")])
@pytest.mark.parametrize("shape", [lambda piece: [piece], lambda piece: iter([piece]), lambda piece: (b"", piece)])
def test_what_is_not_bytes_is_500(serve: Serve, piece: Any, shape: Any) -> None:
    running = serve(answering(lambda: shape(piece)))
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            assert client.response().status == 500


def test_a_string_as_the_body_is_500(serve: Serve) -> None:
    assert serve(answering("text")).ask(GET).status == 500
    assert serve(answering(None)).ask(GET).status == 500
    assert serve(answering(5)).ask(GET).status == 500


def test_what_is_not_bytes_after_the_head_breaks_the_connection_off(serve: Serve) -> None:
    client = serve(answering(lambda: iter([b"good", "bad"]))).client()
    client.send(GET)
    with pytest.raises(Truncated):
        client.response()


def test_an_exception_in_the_middle_breaks_the_connection_off(serve: Serve) -> None:
    def body() -> Any:
        yield b"begun"
        raise RuntimeError("in the middle")

    client = serve(answering(body)).client()
    client.send(GET + GET)
    with pytest.raises(Truncated):
        client.response()


@pytest.mark.parametrize("length", [None, "4"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "bad status"])
@pytest.mark.parametrize("request_head", [GET, HEAD, OLD])
def test_the_iterable_is_closed_once(serve: Serve, length: str | None, status: str, request_head: bytes) -> None:
    made: list[Closing] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        made.append(Closing([b"a", b"b", b"c", b"d"]))
        if status != "bad status":
            start_response(status, [("Content-Length", length)] if length else [])
        return made[0]

    running = serve(app)
    running.ask(request_head, request_head[:4].decode().strip())
    eventually(lambda: made[0].closed, "close() was called")
    running.verify()
    assert made[0].closed == 1


def test_the_iterable_is_closed_when_iteration_fails(serve: Serve) -> None:
    class Failing(Closing):
        def __iter__(self) -> Any:
            raise RuntimeError("no pieces")

    made = Failing([])
    assert serve(answering(lambda: made)).ask(GET).status == 500
    eventually(lambda: made.closed == 1, "close() was called")


def test_a_close_that_fails_is_logged_and_harms_nobody(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Closing):
        def close(self) -> None:
            raise RuntimeError("cannot close")

    running = serve(answering(lambda: Failing([b"fine"])))
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            assert client.response().body == b"fine"
    log_with(caplog, "cannot close", 2)


def test_the_iterable_is_closed_when_the_client_leaves(serve: Serve) -> None:
    made: list[Closing] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        made.append(Closing(iter(lambda: b"x" * 65536, b"")))
        return made[0]

    running = serve(app)
    client = running.client(receive_buffer=4096)
    client.send(GET)
    assert client.head().status == 200
    client.reset()
    eventually(lambda: made[0].closed == 1, "close() was called")


def test_a_response_with_the_file_wrapper(serve: Serve) -> None:
    file = io.BytesIO(b"0123456789" * 20_000)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "200000")])
        return environ["wsgi.file_wrapper"](file, 1000)

    assert serve(app).ask(GET).body == b"0123456789" * 20_000
    eventually(lambda: file.closed, "the file was closed")


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_the_validator_of_wsgiref_has_nothing_to_say(serve: Serve, method: str) -> None:
    @validator
    def app(environ: Any, start_response: Any) -> Any:
        read = environ["wsgi.input"]
        data = read.read(2) + read.readline() + b"".join(read.readlines()) + b"".join(read)
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        return iter([data, b"!"])

    body = b"a\nb\nc" if method == "POST" else b""
    request = f"{method} /p?q HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    running = serve(app)
    with running.client() as client:
        for _ in range(2):
            client.send(request)
            response = client.response(method)
            assert response.status == 200
            assert response.body == (b"written " + body + b"!" if method != "HEAD" else b"")
