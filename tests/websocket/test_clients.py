"""Clients that people use, against a served application, in the clear and over TLS."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from streamserve import sleep
from streamserve.errors import WebSocketClosed
from tests.support.server import Running, eventually
from tests.support.tls import Authority
from tests.support.websocket_clients import Client, Message, NodeWs, Refused, WebsocketClient, Websockets
from tests.websocket.conftest import Serve

pytestmark = pytest.mark.foreign

Open = Callable[..., Client]


class Application:
    """Echoes, and does what some messages say.

    Attributes:
        endings: how each connection ended, as the application saw it.
    """

    def __init__(self) -> None:
        self.endings: list[tuple[int, str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/secret":
            start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            return [b"who are you?"]
        websocket = environ["wsgi.websocket"]
        websocket.accept(websocket.subprotocols[-1] if websocket.subprotocols else None)
        for message in websocket:
            match message:
                case "close":
                    websocket.close(4002, "as you wish: ä")
                case "ping":
                    websocket.ping(b"still there?")
                    websocket.send("pinged")
                case _:
                    websocket.send(message)
        self.endings.append((websocket.close_code, websocket.close_reason))
        return []


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["ws", "wss"])
def running(
    request: pytest.FixtureRequest, serve: Serve, application: Application, authority: Authority
) -> Iterator[Running]:
    """A server that listens in the clear or by TLS, with pings too rare to come by themselves."""
    options: dict[str, Any] = {"certfile": authority.issue("localhost")} if request.param == "wss" else {}
    return serve(application, websocket_ping_interval=3600, **options)


@pytest.fixture(params=[WebsocketClient, Websockets, NodeWs])
def connect(request: pytest.FixtureRequest, running: Running, authority: Authority) -> Iterator[Open]:
    """Opens a client: connect(path, subprotocols); it leaves after the test."""
    encrypted = bool(running.server.settings.certfile)
    with ExitStack() as stack:

        def open_client(path: str = "/", subprotocols: tuple[str, ...] = ()) -> Client:
            url = f"{'wss' if encrypted else 'ws'}://localhost:{running.port}{path}"
            client: Client = request.param(url, list(subprotocols), authority.file if encrypted else "")
            stack.callback(client.leave)
            return client

        yield open_client


@pytest.fixture
def client(connect: Open) -> Client:
    return connect()


@pytest.mark.parametrize(
    "message",
    ["text", "", "grüße \U0001f600", b"\x00\xff", b"", b"x" * 125, b"x" * 126, "y" * 65_536, bytes(range(256)) * 4096],
    ids=lambda message: f"{type(message).__name__} of {len(message)}",
)
def test_a_message_comes_back_as_it_was(client: Client, message: Message) -> None:
    client.send(message)
    assert client.receive() == message


@pytest.mark.parametrize(
    "fragments",
    [("a", "", "b"), (b"\x00", b"\xff" * 70_000, b""), ("", ""), ("x",) * 50],
    ids=["text", "binary", "empty", "many"],
)
def test_fragments_come_back_as_one_message(client: Client, fragments: tuple[Any, ...]) -> None:
    client.send_fragments(*fragments)
    assert client.receive() == fragments[0][:0].join(fragments)
    client.send("next")
    assert client.receive() == "next"


def test_messages_come_back_in_their_order(client: Client) -> None:
    messages = [f"{number}" if number % 2 else bytes([number]) * number for number in range(200)]
    for message in messages:
        client.send(message)
    assert [client.receive() for _ in messages] == messages


def test_a_clients_ping_is_answered_with_its_payload(client: Client) -> None:
    for payload in (b"here?", b"x" * 125):
        assert client.ping(payload) == payload
    client.pong()
    client.send("unharmed")
    assert client.receive() == "unharmed"


def test_a_client_sees_the_servers_ping_and_lives_on(client: Client) -> None:
    client.send("ping")
    assert client.receive() == "pinged"
    assert client.pings == [b"still there?"]
    client.send("unharmed")
    assert client.receive() == "unharmed"


def test_the_code_and_reason_of_a_client_reach_the_application_and_come_back(
    client: Client, application: Application
) -> None:
    assert client.close(4001, "enough: ä")[0] == 4001
    eventually(lambda: application.endings == [(4001, "enough: ä")], "the application sees the end")


def test_the_code_and_reason_of_the_application_reach_the_client(client: Client, application: Application) -> None:
    client.send("close")
    assert client.ending() == (4002, "as you wish: ä")
    eventually(lambda: application.endings == [(4002, "as you wish: ä")], "the application sees the end")


def test_a_client_that_vanishes_is_1006(client: Client, application: Application) -> None:
    client.leave()
    eventually(lambda: application.endings == [(1006, "")], "the application sees the end")


def test_the_application_chooses_a_subprotocol(connect: Open) -> None:
    assert connect("/", ("first", "second")).protocol == "second"
    assert connect("/").protocol == ""


def test_an_answer_that_is_no_upgrade_reaches_the_client(connect: Open) -> None:
    with pytest.raises(Refused) as refused:
        connect("/secret")
    assert refused.value.status == 401


def test_a_server_that_stops_says_1001(client: Client, running: Running) -> None:
    client.send("first")
    assert client.receive() == "first"
    stopped = running.stop()
    assert client.ending()[0] == 1001
    assert stopped.result(60) == 0


def ticks(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Sends without an end, and asks for nothing."""
    websocket = environ["wsgi.websocket"]
    with contextlib.suppress(WebSocketClosed):
        while True:
            websocket.send("tick")
            sleep(0.005)
    return []


def test_clients_that_say_nothing_are_asked_and_stay(serve: Serve) -> None:
    server = serve(ticks, websocket_ping_interval=0.05, websocket_ping_timeout=2)
    with ExitStack() as stack:
        clients: list[Client] = []
        for kind in (WebsocketClient, Websockets, NodeWs):
            clients.append(kind(f"ws://localhost:{server.port}/", [], ""))
            stack.callback(clients[-1].leave)
        while any(len(client.pings) < 2 for client in clients):  # the second comes only if the first was answered
            for client in clients:
                assert client.receive() == "tick"
