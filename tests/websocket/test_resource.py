"""A Resource: who gets a request, by its path and its kind, as in gevent-websocket 0.10."""

from collections.abc import Callable
from typing import Any

import pytest
import websocket as websocket_client

from streamserve.websocket import Resource, WebSocketApplication
from tests.support.server import Running
from tests.websocket.conftest import Connect, Serve


def speaking(word: str) -> type[WebSocketApplication]:
    """Greets with a word."""

    class Speaking(WebSocketApplication):
        def on_open(self) -> None:
            self.ws.send(word)

    return Speaking


def page(word: str) -> Callable[..., Any]:
    """Answers any request with a word."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [word.encode()]

    return app


def get(server: Running, path: str) -> Any:
    return server.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def test_a_path_of_websockets_asks_for_an_upgrade(serve: Serve) -> None:
    server = serve(Resource({"/room": speaking("room")}))
    response = get(server, "/room")
    assert (response.status, response.get("upgrade")) == (426, "websocket")
    assert get(server, "/x").status == 404


def test_the_beginning_of_a_path_matches_and_all_of_it_where_the_pattern_says_so(
    serve: Serve, connect: Connect
) -> None:
    server = serve(Resource([("/exact$", speaking("exact")), ("^/chat", speaking("chat")), ("/", page("page"))]))
    for path, word in [("/exact", "exact"), ("/chat", "chat"), ("/chat/one", "chat"), ("/chatter", "chat")]:
        assert connect(server, path).recv() == word
    assert get(server, "/any/where").body == b"page"
    with pytest.raises(websocket_client.WebSocketBadStatusException):  # the page's 200
        connect(server, "/exactly")
    with pytest.raises(websocket_client.WebSocketBadStatusException):
        connect(server, "/no/chat")


def test_the_first_that_matches_gets_it(serve: Serve, connect: Connect) -> None:
    server = serve(
        Resource({"/a": speaking("a"), "/a/b": speaking("b"), "/": page("first"), "/page": page("swallowed")})
    )
    assert connect(server, "/a/b").recv() == "a"
    assert get(server, "/page").body == b"first"


def test_a_request_passes_over_the_applications_of_the_other_kind(serve: Serve, connect: Connect) -> None:
    server = serve(Resource([("/live", speaking("live")), ("/", page("page")), ("/late", speaking("late"))]))
    assert get(server, "/live").body == b"page"
    assert connect(server, "/live").recv() == "live"
    assert get(server, "/late").body == b"page"
    assert connect(server, "/late").recv() == "late"


def test_a_handshake_without_a_websocket_application_goes_to_the_wsgi_application(
    serve: Serve, connect: Connect
) -> None:
    def speaks(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.websocket"].send("by itself")
        return []

    assert connect(serve(Resource({"/live": speaking("live"), "/": speaks})), "/other").recv() == "by itself"


@pytest.mark.parametrize("nothing", [(), ({},), (None,), ([],)])
def test_a_resource_may_have_nothing(serve: Serve, nothing: tuple[Any, ...]) -> None:
    assert get(serve(Resource(*nothing)), "/").status == 404
