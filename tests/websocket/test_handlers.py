"""WebSockets without a greenlet, and messages to many."""

import threading
from typing import Any, ClassVar

import pytest
import websocket as websocket_client

from streamserve import sleep, spawn
from streamserve.websocket import Resource, WebSocket, WebSocketApplication, broadcast, slow_clients
from tests.support.logs import log_with
from tests.support.server import eventually
from tests.websocket.conftest import Connect, Serve
from tests.websocket.test_websocket import paused_inbox, plain


class Room(WebSocketApplication):
    """What is said by one is heard by all."""

    clients: ClassVar[list[WebSocket]] = []
    log: ClassVar[list[str]] = []

    def on_open(self) -> None:
        self.clients.append(self.ws)

    def on_message(self, message: str | bytes) -> None:
        if message == "wait":
            sleep(0.01)
        if message == "fail":
            raise RuntimeError("on_message failed")
        broadcast(self.clients, message)

    def on_close(self, reason: str) -> None:
        self.clients.remove(self.ws)
        self.log.append(f"{self.ws.close_code} {reason}")


@pytest.fixture
def room() -> type[Room]:
    return type("Room", (Room,), {"clients": [], "log": []})


def test_a_resource_holds_no_greenlet_between_messages(serve: Serve, connect: Connect, room: type[Room]) -> None:
    server = serve(Resource({"/room": room, "/.*": plain}))
    assert server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == b"none"
    clients = [connect(server, "/room") for _ in range(3)]
    eventually(lambda: len(room.clients) == 3, "all are in")
    assert server.server.active == 0
    clients[0].send("hello")
    assert [client.recv() for client in clients] == ["hello"] * 3
    clients[0].close(1000, b"bye")
    eventually(lambda: room.log == ["1000 bye"], "it leaves")
    clients[1].send("again")
    assert [client.recv() for client in clients[1:]] == ["again"] * 2


def test_messages_of_one_client_are_handled_in_order_also_when_a_handler_waits(
    serve: Serve, connect: Connect, room: type[Room]
) -> None:
    client = connect(serve(Resource({"/": room})))
    for message in ["wait", "1", "wait", "2", "3"]:
        client.send(message)
    assert [client.recv() for _ in range(5)] == ["wait", "1", "wait", "2", "3"]


def test_a_handler_gets_all_that_came_before_it_also_from_a_peer_that_was_stopped(
    serve: Serve, connect: Connect
) -> None:
    go = threading.Event()

    class Last:
        def __init__(self, websocket: WebSocket) -> None:
            self.ws, self.seen = websocket, 0

        def on_message(self, message: str | bytes) -> None:
            assert message == bytes([self.seen]) * 100_000
            self.seen += 1
            if self.seen == 50:
                self.ws.send("all")

        def on_close(self, reason: str) -> None:
            pass

    def late(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        while not go.is_set():
            sleep(0.001)
        websocket.handle_by(Last(websocket))
        return []

    server = serve(late)
    client = connect(server)
    writer = threading.Thread(target=lambda: [client.send_binary(bytes([number]) * 100_000) for number in range(50)])
    writer.start()
    eventually(lambda: paused_inbox(server), "it pauses")
    go.set()
    assert client.recv() == "all"
    writer.join()


def test_a_handler_that_waits_keeps_nobody_else_waiting(serve: Serve, connect: Connect) -> None:
    release = threading.Event()

    class Waits(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            while message == "wait" and not release.is_set():
                sleep(0.001)
            self.ws.send(message)

    server = serve(Resource({"/": Waits}))
    slow, quick = connect(server), connect(server)
    slow.send("wait")
    quick.send("quick")
    assert quick.recv() == "quick"
    release.set()
    assert slow.recv() == "wait"


def test_a_handler_that_closes_and_is_still_busy_when_the_answer_comes_hears_of_the_end(
    serve: Serve, connect: Connect
) -> None:
    ended = threading.Event()

    class Closes(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            self.ws.close(4000)
            while self.ws.handle in self.ws._sockets.open:
                sleep(0.001)

        def on_close(self, reason: str) -> None:
            ended.set()

    client = connect(serve(Resource({"/": Closes})))
    client.send("close")
    assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x0f\xa0")  # and answers it
    assert ended.wait(60)


def test_messages_of_one_poll_come_as_they_were_sent(serve: Serve, connect: Connect) -> None:
    class Echo(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send(message)

    client = connect(serve(Resource({"/": Echo})))
    for sent in (
        ["a", "", "bc"],
        ["ä", "", "b", "€"],
        ["a", "\0\1\2\3\4", "b"],
        ["\0", "\0\1", "", "\0\1\2\3", "\4\0\1"],
        [b"a", b"", b"\0\1\2\3\4"],
        [b"\xff\x00", "a", b"", "ä"],
        [b"x" * 1024, b"y" * 1025, "z" * 70000, "a"],
    ):
        client.sock.sendall(
            b"".join(websocket_client.ABNF.create_frame(one, 1 if isinstance(one, str) else 2).format() for one in sent)
        )
        got = [client.recv_data() for _ in sent]
        assert got == [(1, one.encode()) if isinstance(one, str) else (2, one) for one in sent]


def test_messages_of_one_poll_reach_handlers_and_receivers(serve: Serve, connect: Connect) -> None:
    class Echo(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send(f"handled {message!r}")

    def receive(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for message in environ["wsgi.websocket"]:
            environ["wsgi.websocket"].send(f"received {message!r}")
        return []

    server = serve(Resource({"/$": Echo, "/receive": receive}))
    handled, received, gone = connect(server), connect(server, "/receive"), connect(server)
    for word in ["one", "two"]:
        release = threading.Event()
        blocked = threading.Thread(target=server.call, args=(release.wait, 60))  # what comes now comes in one poll
        blocked.start()
        handled.send(word)
        received.send(word)
        gone.send(word)
        release.set()
        blocked.join()
        assert handled.recv() == f"handled {word!r}"
        assert received.recv() == f"received {word!r}"
        gone.shutdown()
        received.close()
        received, gone = connect(server, "/receive"), connect(server)
    handled.send("none")
    assert handled.recv() == "handled 'none'"
    received.close()
    eventually(lambda: not server.server._endpoints[0].sockets.receiving, "nobody receives")


def test_an_on_message_that_raises_ends_with_1011(
    serve: Serve, connect: Connect, room: type[Room], caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(serve(Resource({"/": room})))
    client.send("fail")
    assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x03\xf3")
    assert log_with(caplog, "on_message failed").count("on_message failed") == 1


def test_broadcast_from_a_native_thread(serve: Serve, connect: Connect, room: type[Room]) -> None:
    clients = [connect(server, "/") for server in [serve(Resource({"/": room}))] for _ in range(3)]
    eventually(lambda: len(room.clients) == 3, "all are in")
    assert broadcast(room.clients, b"to all") == 3
    assert [client.recv() for client in clients] == [b"to all"] * 3


@pytest.mark.parametrize("slow", ["skip", "close"])
def test_a_broadcast_waits_for_no_slow_client_and_counts_it(
    serve: Serve, connect: Connect, room: type[Room], slow: str
) -> None:
    server = serve(Resource({"/": room}), websocket_slow=slow, websocket_queue=65536)
    stuck = connect(server, sockopt=[(1, 8, 4096)])  # SOL_SOCKET, SO_RCVBUF
    quick = connect(server)
    eventually(lambda: len(room.clients) == 2, "both are in")
    sent, reached = 0, 2
    while reached == 2:
        assert sent < 10_000, "the kernel takes no end of it"
        reached = server.call(broadcast, room.clients, b"x" * 50_000)
        assert quick.recv() == b"x" * 50_000
        sent += 1
    assert server.call(slow_clients) == ((1, 0) if slow == "skip" else (0, 1))
    if slow == "close":
        eventually(lambda: room.log == ["1013 "], "it is thrown out")
    else:
        assert [len(stuck.recv()) for _ in range(sent - 1)] == [50_000] * (sent - 1)
        eventually(lambda: server.call(broadcast, room.clients, "once more") == 2, "it gets what comes later")
        assert stuck.recv() == "once more"


def test_a_background_greenlet_pushes(serve: Serve, connect: Connect) -> None:
    def pushes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        spawn(lambda: [websocket.send(str(number)) for number in range(3)])
        websocket.receive()
        return []

    client = connect(serve(pushes))
    assert [client.recv() for _ in range(3)] == ["0", "1", "2"]
