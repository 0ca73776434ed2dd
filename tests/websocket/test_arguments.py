"""What an application passes to a WebSocket and cannot be meant: it is told so where it does, in words."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from streamserve import get_hub
from streamserve.errors import LocalProtocolError
from streamserve.websocket import Resource, WebSocketApplication, broadcast
from tests.websocket.conftest import Connect, Serve


def trying(attempt: Callable[..., Any]) -> Callable[..., Any]:
    """An application that tells its client what an attempt with its WebSocket raises."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        try:
            attempt(websocket)
            told = "nothing"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        websocket.send(told)
        return []

    return app


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        (
            lambda ws: ws.receive("x"),
            "TypeError: a timeout is a number of seconds, or None: for ever; not 'x' of type str",
        ),
        (
            lambda ws: ws.receive([]),
            "TypeError: a timeout is a number of seconds, or None: for ever; not [] of type list",
        ),
        (
            lambda ws: ws.receive(float("nan")),
            "ValueError: a timeout is a number of seconds, or None: for ever; not nan",
        ),
        (lambda ws: ws.ping("abc"), "TypeError: the payload of a ping is bytes, not 'abc' of type str"),
        (lambda ws: ws.ping(3), "TypeError: the payload of a ping is bytes, not 3 of type int"),
        (lambda ws: ws.ping(bytearray(126)), "LocalProtocolError: the payload of a ping has 126 bytes; at most 125"),
        (lambda ws: ws.close("x"), "TypeError: the code of a Close is an int, such as 1000, not 'x' of type str"),
        (lambda ws: ws.close(None), "TypeError: the code of a Close is an int, such as 1000, not None"),
        (lambda ws: ws.close(1000, b"x"), "TypeError: the reason of a Close is a str, not b'x' of type bytes"),
        (lambda ws: ws.close(1 << 70), "LocalProtocolError: a WebSocket cannot be closed with 1180591620717411303424"),
        (lambda ws: ws.close(-1), "LocalProtocolError: a WebSocket cannot be closed with -1"),
        (lambda ws: ws.send(5), "TypeError: a message is str or bytes, not int"),
        (lambda ws: ws.send(None), "TypeError: a message is str or bytes, not NoneType"),
        (lambda ws: broadcast([ws], 5), "TypeError: a message is str or bytes, not int"),
        (
            lambda ws: broadcast(ws, "x"),
            "TypeError: broadcast() sends to several WebSockets, such as a set of them; not to",
        ),
        (
            lambda ws: broadcast(5, "x"),
            "TypeError: broadcast() sends to several WebSockets, such as a set of them; not to 5",
        ),
        (lambda ws: broadcast([ws, "y"], "x"), "TypeError: broadcast() sends to WebSockets, not to 'y'"),
        (
            lambda ws: ws.accept(5),
            "TypeError: a subprotocol is a str that the client offers, or None; not 5 of type int",
        ),
        (lambda ws: ws.accept(b"a"), "TypeError: a subprotocol is a str that the client offers, or None; not b'a'"),
        (
            lambda ws: ws.accept(None, {"A": "b"}),
            "TypeError: headers are pairs of str, such as [('Set-Cookie', 'a=b')], not {",
        ),
        (
            lambda ws: ws.accept(None, "A: b"),
            "TypeError: headers are pairs of str, such as [('Set-Cookie', 'a=b')], not 'A",
        ),
        (
            lambda ws: ws.accept(None, ["A: b"]),
            "TypeError: headers are pairs of str, such as [('Set-Cookie', 'a=b')], not [",
        ),
        (lambda ws: ws.accept(None, 5), "TypeError: headers are pairs of str, such as [('Set-Cookie', 'a=b')], not 5"),
    ],
)
def test_what_cannot_be_meant_is_named(
    serve: Serve, connect: Connect, attempt: Callable[..., Any], told: str, accepted: bool
) -> None:
    def first(websocket: Any) -> Any:
        if accepted:
            websocket.accept()
        return attempt(websocket)

    assert connect(serve(trying(first))).recv().startswith(told)


def test_a_native_thread_hears_that_it_closes_with_what_may_not_be_sent(serve: Serve, connect: Connect) -> None:
    heard: list[str] = []

    def close(websocket: Any) -> None:
        for arguments in [(999,), (1000, "x" * 124), (1000, b"x")]:
            try:
                websocket.close(*arguments)
            except (LocalProtocolError, TypeError) as error:
                heard.append(str(error))
        websocket.close(4000)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        get_hub().threadpool.apply(close, (websocket,))
        websocket.receive()
        return []

    assert connect(serve(app)).recv_data()[1] == b"\x0f\xa0"
    assert "cannot be closed with 999" in heard[0] and "124 bytes" in heard[1] and "not b'x'" in heard[2]


@pytest.mark.parametrize("code", [999, *range(1000, 1017), 2999, 3000, 4999, 5000])
def test_the_codes_that_may_be_sent_are_those_of_the_core(serve: Serve, connect: Connect, code: int) -> None:
    told = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        try:
            websocket.close(code)
        except LocalProtocolError:
            told.set()
        return []

    opcode, data = connect(serve(app)).recv_data()
    may_not = code < 1000 or code in (1004, 1005, 1006, 1015, 1016, 2999, 5000)
    assert (opcode, int.from_bytes(data, "big"), told.is_set()) == (8, 1000 if may_not else code, may_not)


def test_a_protocol_name_that_is_empty_is_none(serve: Serve, connect: Connect) -> None:
    class Nameless(WebSocketApplication):
        @classmethod
        def protocol_name(cls) -> str:
            return ""

        def on_open(self) -> None:
            self.ws.send(repr(self.ws.protocol))

    assert connect(serve(Resource({"/": Nameless}))).recv() == "None"
