"""wsgi.early_hints: interim responses before the one that counts (RFC 8297, RFC 9110 section 15.2)."""

from typing import Any

import pytest

from streamserve.core import lib
from tests.support.logs import log_with
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
STYLE = ("Link", "</style.css>; rel=preload; as=style")
SCRIPT = ("Link", "</script.js>; rel=preload; as=script")


def hinting(*hints: Any, body: Any = (b"body",)) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        for headers in hints:
            environ["wsgi.early_hints"](headers)
        start_response("200 OK", [("X-Final", "1")])
        return list(body)

    return app


def test_hints_come_before_the_response(serve: Serve) -> None:
    with serve(hinting([STYLE, SCRIPT], [SCRIPT]), early_hints="on").client() as client:
        for request in (GET, GET, GET.replace(b"GET", b"HEAD", 1), GET.replace(b"/ ", b"/other ")):
            client.send(request)
            first, second = client.response(), client.response()
            assert (first.status, first.reason) == (second.status, second.reason) == (103, "Early Hints")
            assert first.fields == [("link", STYLE[1]), ("link", SCRIPT[1])]
            assert second.fields == [("link", SCRIPT[1])]
            final = client.response(request[:4].decode().strip())
            assert (final.status, final.get("x-final"), final.get("link")) == (200, "1", None)


def test_http_1_0_gets_none(serve: Serve) -> None:
    response = serve(hinting([STYLE]), early_hints="on").ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (response.status, response.body) == (200, b"body")


def test_not_there_unless_it_is_set(serve: Serve) -> None:
    seen: list[bool] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append("wsgi.early_hints" in environ)
        start_response("200 OK", [])
        return [b""]

    serve(app).ask(GET)
    serve(app, early_hints="on").ask(GET)
    assert seen == [False, True]


@pytest.mark.parametrize(
    "headers",
    [
        [("Link", "a\r\nX: b")],
        [("Link", "\u20ac")],
        [("Li nk", "a")],
        [("Link", b"a")],
        [(b"Link", "a")],
        [("Link", "a", "b")],
        None,
    ],
)
def test_what_may_not_go_on_the_wire_is_500(serve: Serve, headers: Any) -> None:
    running = serve(hinting([STYLE], headers), early_hints="on")
    with running.client() as client:
        client.send(GET)
        assert client.response().status == 103
        assert client.response().status == 500


def test_framing_and_connection_are_not_hinted(serve: Serve) -> None:
    headers = [("Content-Length", "5"), ("Connection", "close"), ("Transfer-Encoding", "chunked"), STYLE]
    with serve(hinting(headers), early_hints="on").client() as client:
        client.send(GET)
        assert client.response().fields == [("link", STYLE[1])]
        assert client.response().body == b"body"


def test_after_the_head_it_is_an_error_of_the_application(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        environ["wsgi.early_hints"]([STYLE])  # nothing was sent yet
        yield b"first"
        environ["wsgi.early_hints"]([STYLE])
        yield b"never"

    client = serve(app, early_hints="on").client()
    client.send(GET)
    assert client.response().status == 103
    assert client.head().status == 200
    assert client.rest() == b"5\r\nfirst\r\n"
    log_with(caplog, "early hints come before")


def test_kept_beyond_its_request_it_does_nothing_to_the_next(serve: Serve) -> None:
    kept: list[Any] = []
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(environ["wsgi.early_hints"])
        try:
            if len(kept) > 1:
                kept[0]([STYLE])
        except Exception as error:
            raised.append(error)
        start_response("200 OK", [])
        return [b"clean"]

    with serve(app, early_hints="on").client() as client:
        for _ in range(3):
            client.send(GET)
            assert client.response().status == 200
    assert len(raised) == 2


def test_a_body_that_is_waited_for_is_still_invited(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([STYLE])
        data = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [data]

    with serve(app, early_hints="on").client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert [client.response().status for _ in range(2)] == [103, 100]
        client.send(b"data")
        assert client.response().body == b"data"


def test_endless_hints_to_a_client_that_takes_nothing_end_with_it(serve: Serve) -> None:
    most: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        while True:
            environ["wsgi.early_hints"]([("Link", "x" * 10_000)])
            most.append(0)

    running = serve(app, early_hints="on", write_timeout=0.3)
    client = running.client(receive_buffer=4096)
    client.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "accepted")
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the write deadline passed")
    assert most
    assert running.count(lib.SS_COUNT_QUEUED_BYTES) == 0
