"""start_response and write: PEP 3333, points 43 to 45 of the promises."""

import sys
import time
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest

from streamserve.errors import ResponseComplete
from tests.support.logs import log_with, logged, no_tracebacks, tracebacks
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = [("Content-Type", "text/plain")]


class Text(str):
    """What a framework's own str subclass looks like."""


class Data(bytes):
    """Likewise for bytes."""


def answering(status: Any, headers: Any, body: Any = (b"body",)) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, headers)
        return list(body)

    return app


def test_status_and_headers_arrive_as_given(serve: Serve) -> None:
    headers = [("X-One", "1"), ("x-one", "2"), ("X-Latin", "\xe9\xff"), ("X-Empty", ""), ("Set-Cookie", "a=b; c")]
    response = serve(answering("299 Fine \xe9", headers)).ask(GET)
    assert (response.status, response.reason) == (299, "Fine \xe9")
    assert response.fields[:5] == [(name.lower(), value) for name, value in headers]
    assert response.get("server") == "streamserve"
    assert response.get("date") is not None
    assert response.get("content-length") == "4"
    assert response.body == b"body"


def test_servers_own_fields(serve: Serve) -> None:
    response = serve(answering("200 OK", [("Server", "mine"), ("Date", "never")])).ask(GET)
    assert response.get("server") == "mine"
    assert response.get("date") != "never"
    assert serve(answering("200 OK", []), server_header="").ask(GET).get("server") is None


def test_a_date_of_the_application_is_kept_and_the_only_one(serve: Serve) -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    for body in ([b"whole"], [b"in", b"pieces"]):
        running = serve(answering("200 OK", [("Date", date), ("Date", date)], body))
        assert running.ask(GET).all("date") == [date]
        assert running.ask(HEAD, "HEAD").all("date") == [date]


@pytest.mark.parametrize("kind", [iter, tuple, lambda headers: (field for field in headers), dict.items])
def test_headers_may_be_read_only_once(serve: Serve, kind: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        headers = [("X-One", "1"), ("X-Two", "2")]
        start_response("200 OK", kind(dict(headers) if kind is dict.items else headers))
        return [b"body"]

    running = serve(app)
    for _ in range(3):
        response = running.ask(GET)
        assert (response.get("x-one"), response.get("x-two"), response.body) == ("1", "2", b"body")


@pytest.mark.parametrize("headers", [[], [("Content-Length", "4")]])
def test_205_has_no_body_and_says_so(serve: Serve, headers: list[tuple[str, str]], caplog: Any) -> None:
    running = serve(answering("205 Reset Content", headers))
    for _ in range(2):
        client = running.client()
        client.send(GET + GET)
        for _ in range(2):  # nothing of the body is taken for the next response
            response = client.response()
            assert (response.status, response.all("content-length"), response.body) == (205, ["0"], b"")
    log_with(caplog, "a body of 4 bytes or more was dropped: status 205 has none")


def test_the_date_is_that_of_the_response(serve: Serve) -> None:
    before = time.time()
    date = str(serve(answering("200 OK", OK)).ask(GET).get("date"))
    moment = parsedate_to_datetime(date)
    assert format_datetime(moment, usegmt=True) == date  # IMF-fixdate, RFC 9110 section 5.6.7
    assert before - 2 <= moment.timestamp() <= time.time()


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK\r\nX-Split: 1", OK),
        ("200 OK\n", OK),
        ("20 OK", OK),
        ("2000 OK", OK),
        ("abc", OK),
        ("200", OK),
        ("200\tOK", OK),
        ("099 Low", OK),
        ("2\u0660\u0660 OK", OK),
        ("200 \u20ac", OK),
        ("200\0", OK),
        (b"200 OK", OK),
        (200, OK),
        ("100 Continue", OK),
        ("101 Switching Protocols", OK),
        ("200 OK", [("X", "a\r\nY: b")]),
        ("200 OK", [("X", "a\n")]),
        ("200 OK", [("X", "a\0b")]),
        ("200 OK", [("X", "a\x7f")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X", b"bytes")]),
        ("200 OK", [("X", 1)]),
        ("200 OK", [("X", None)]),
        ("200 OK", [(b"X", "v")]),
        ("200 OK", [("X Y", "v")]),
        ("200 OK", [("X:", "v")]),
        ("200 OK", [("", "v")]),
        ("200 OK", [("X\n", "v")]),
        ("200 OK", [("X\xe9", "v")]),
        ("200 OK", [("X", "v", "w")]),
        ("200 OK", [5]),
        ("200 OK", None),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "+4")]),
        ("200 OK", [("Content-Length", "4,4")]),
        ("200 OK", [("Content-Length", "\u0664")]),
        ("200 OK", [("Content-Length", "")]),
        ("200 OK", [("Content-Length", "4"), ("content-length", "4")]),
        ("200 OK", [("Content-Length", "9" * 19)]),
        ("200 OK", [("Content-Length", "9" * 5000)]),
    ],
)
def test_what_may_not_go_on_the_wire_is_500(
    serve: Serve, caplog: pytest.LogCaptureFixture, status: Any, headers: Any
) -> None:
    running = serve(answering(status, headers))
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            response = client.response()
            assert response.status == 500
            assert b"X-Split" not in response.body and response.get("x") is None
    tracebacks(caplog, 2)


def test_text_subclasses_are_text(serve: Serve) -> None:
    running = serve(answering(Text("200 OK"), [(Text("X-Sub"), Text("v"))], [Data(b"da"), b"ta"]))
    for _ in range(2):
        response = running.ask(GET)
        assert (response.status, response.get("x-sub"), response.body) == (200, "v", b"data")


def test_one_piece_of_a_bytes_subclass(serve: Serve) -> None:
    response = serve(answering("200 OK", OK, [Data(b"data")])).ask(GET)
    assert (response.status, response.body, response.get("content-length")) == (200, b"data", "4")


def test_headers_may_be_any_iterable(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", (field for field in [("X-One", "1"), ("X-Two", "2")]))
        return [b"body"]

    running = serve(app)
    for _ in range(2):
        response = running.ask(GET)
        assert (response.get("x-one"), response.get("x-two")) == ("1", "2")


def test_the_log_names_a_bad_header_and_not_its_value(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    assert serve(answering("200 OK", [("X-Token", "secret\r\nX: y")])).ask(GET).status == 500
    tracebacks(caplog, 1)
    assert "X-Token" in logged(caplog) and "secret" not in logged(caplog)


@pytest.mark.parametrize(
    "name",
    "Connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Proxy-Authenticate Proxy-Authorization"
    " Proxy-Connection".split(),
)
def test_hop_by_hop_headers_are_dropped_with_a_warning(
    serve: Serve, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    response = serve(answering("200 OK", [(name, "chunked"), *OK])).ask(GET)
    assert response.status == 200 and response.body == b"body"
    assert response.get(name.lower()) is None
    log_with(caplog, name)


def test_called_twice_is_an_assertion_error(serve: Serve) -> None:
    caught: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", OK)
        try:
            start_response("201 Created", OK)
        except AssertionError as error:
            caught.append(error)
        return [b"once"]

    response = serve(app).ask(GET)
    assert (response.status, response.body) == (200, b"once")
    assert len(caught) == 1


def test_exc_info_before_the_head_replaces_it(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-First", "1"), ("Content-Length", "99")])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("503 Replaced", [("X-Second", "2")], sys.exc_info())
        return [b"sorry"]

    response = serve(app).ask(GET)
    assert (response.status, response.get("x-first"), response.get("x-second")) == (503, None, "2")
    assert response.body == b"sorry"


def test_exc_info_after_the_head_is_raised_and_ends_the_connection(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", OK)
        yield b"begun"
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("500 Late", [], sys.exc_info())
        yield b"never"

    running = serve(app)
    client = running.client()
    client.send(GET + GET)
    assert client.head().status == 200
    rest = client.rest()
    assert rest == b"5\r\nbegun\r\n"
    assert [record.exc_info[0] for record in tracebacks(caplog, 1)] == [ValueError]


def test_never_called_is_500(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return [b"no head"]

    assert serve(app).ask(GET).status == 500


def test_called_late_by_a_generator(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        yield b""
        start_response("200 OK", OK)
        yield b"late"

    response = serve(app).ask(GET)
    assert (response.status, response.body, response.chunks) == (200, b"late", [b"late"])


def test_write_then_the_iterable(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", OK)
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three", b" four"]

    response = serve(app).ask(GET)
    assert response.body == b"one two three four"
    assert response.chunks is not None


def test_write_past_the_length_is_the_applications_error(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"one")
        write(b"two")
        write(b"")
        while True:
            write(b"more")

    running = serve(app)
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            assert client.response().body == b"onetwo"
    assert [record.exc_info[0] for record in tracebacks(caplog, 2)] == [ResponseComplete] * 2


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
def test_write_without_end_to_a_response_without_a_body_ends_quietly(
    serve: Serve, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response(status, OK)
        try:
            while True:
                write(b"an event")
        except ResponseComplete as error:
            raised.append(error)
            raise

    running = serve(app)
    with running.client() as client:
        for _ in range(2):
            client.send(HEAD)
            assert client.response("HEAD").status == int(status[:3])
    eventually(lambda: len(raised) == 2, "write() raised")
    assert no_tracebacks(caplog, running)


def test_write_after_the_response_raises_and_sends_nothing(serve: Serve) -> None:
    kept: list[Any] = []
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(start_response("200 OK", OK))
        if len(kept) > 1:
            with pytest.raises(ResponseComplete) as caught:
                kept[0](b"injected")
            raised.append(caught.value)
        return [b"clean"]

    running = serve(app)
    with running.client() as client:
        for _ in range(3):
            client.send(GET)
            response = client.response()
            assert response.body == b"clean"
    assert len(raised) == 2


@pytest.mark.parametrize("data", ["text", 5, None, bytearray(b"x")])
def test_write_takes_bytes_only(serve: Serve, data: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", OK)(data)
        return []

    assert serve(app).ask(GET).status == 500
