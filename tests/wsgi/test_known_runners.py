"""What an application keeps by the raw greenlet does not reach the next request or message."""

import weakref
from typing import Any

import greenlet
import pytest

from streamserve.websocket import Resource, WebSocketApplication
from tests.websocket.conftest import Connect, connect
from tests.wsgi.conftest import Serve

__all__ = ["connect"]

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Keeping:
    """Counts, by the current greenlet, how often it was there: by a dict, a weak dict or an attribute."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.strong: dict[Any, int] = {}
        self.weak: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def count(self) -> int:
        current: Any = greenlet.getcurrent()
        if self.how == "attribute":
            current.count = getattr(current, "count", 0) + 1
            return int(current.count)
        kept: Any = self.strong if self.how == "dict" else self.weak
        kept[current] = kept.get(current, 0) + 1
        return int(kept[current])

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"%d" % self.count()]


@pytest.mark.parametrize("how", ["dict", "weak", "attribute"])
def test_each_request_of_a_connection_has_a_greenlet_of_its_own(serve: Serve, how: str) -> None:
    server = serve(Keeping(how))
    with server.client() as client:
        for burst in (1, 1, 5, 3):
            client.send(REQUEST * burst)
            assert [client.response().body for _ in range(burst)] == [b"1"] * burst
    clients = [server.client() for _ in range(5)]
    for each in clients:
        each.send(REQUEST)
    assert [each.response().body for each in clients] == [b"1"] * 5


@pytest.mark.parametrize("how", ["dict", "weak", "attribute"])
def test_each_message_of_a_websocket_has_one_of_its_own(serve: Serve, connect: Connect, how: str) -> None:
    keeping = Keeping(how)

    class Counting(WebSocketApplication):
        def on_message(self, message: Any) -> None:
            self.ws.send(str(keeping.count()))

    client = connect(serve(Resource({"/": Counting})))
    for burst in (1, 1, 5):
        for _ in range(burst):
            client.send("x")
        assert [client.recv() for _ in range(burst)] == ["1"] * burst


def test_what_never_asks_goes_on_in_one_greenlet(serve: Serve) -> None:
    seen = set()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.add(id(greenlet.getcurrent()))
        start_response("200 OK", [])
        return [b""]

    server = serve(application)
    with server.client() as client:
        for _ in range(5):
            client.send(REQUEST * 5)
            assert [client.response().status for _ in range(5)] == [200] * 5
    assert len(seen) == 1
