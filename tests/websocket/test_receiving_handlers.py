"""A handler that receives: `self.ws.receive()` in its methods, and what else ends where it meets the end."""

import gc
import threading
import weakref
from typing import Any, ClassVar

import pytest

from streamserve import sleep, spawn
from streamserve.errors import LocalProtocolError, WebSocketClosed
from streamserve.websocket import Resource, WebSocket, WebSocketApplication
from tests.support.logs import log_with
from tests.support.server import eventually
from tests.websocket.conftest import Connect, Serve


class Logging(WebSocketApplication):
    """Keeps what happened to it."""

    log: ClassVar[list[Any]]
    alive: ClassVar["weakref.WeakSet[Logging]"]

    def __init_subclass__(cls) -> None:
        cls.log, cls.alive = [], weakref.WeakSet()

    def __init__(self, ws: WebSocket) -> None:
        super().__init__(ws)
        self.alive.add(self)

    def on_close(self, reason: str) -> None:
        self.log.append(f"closed with {self.ws.close_code} {reason}".strip())

    @classmethod
    def gone(cls) -> bool:
        gc.collect()
        return not cls.alive


def test_on_message_receives_what_comes_next(serve: Serve, connect: Connect) -> None:
    class Ask(Logging):
        def on_message(self, message: str | bytes) -> None:
            if message == "hi":
                self.ws.send("your name?")
                name = self.ws.receive()
                self.ws.send(f"hello {name!r}")
            else:
                self.ws.send(f"handled {message!r}")

    client = connect(serve(Resource({"/": Ask})))
    for name in ["Ann", b"Bob", "Zoë"]:
        client.send("hi")
        assert client.recv() == "your name?"
        client.send(name, 1 if isinstance(name, str) else 2)
        assert client.recv() == f"hello {name!r}"
    client.send("then")
    assert client.recv() == "handled 'then'"
    client.close(1000, b"bye")
    eventually(lambda: Ask.log == ["closed with 1000 bye"], "it hears of the end")
    eventually(Ask.gone, "nothing holds it")


def test_on_message_receives_first_what_came_while_it_was_busy(serve: Serve, connect: Connect) -> None:
    busy, go = threading.Event(), threading.Event()

    class Pairs(Logging):
        def on_message(self, message: str | bytes) -> None:
            busy.set()
            while not go.is_set():
                sleep(0.001)
            self.ws.send(f"{message!r} {self.ws.receive()!r}")

    client = connect(serve(Resource({"/": Pairs})))
    client.send("1")
    assert busy.wait(60)
    for message in ["2", "3", "4", "5"]:
        client.send(message)
    go.set()
    assert [client.recv() for _ in range(2)] == ["'1' '2'", "'3' '4'"]
    client.send("6")
    assert client.recv() == "'5' '6'"


def test_messages_of_one_poll_reach_an_on_message_that_receives_in_order(serve: Serve, connect: Connect) -> None:
    class Pairs(Logging):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send(f"{message!r} {self.ws.receive(timeout=60)!r}")

    server = serve(Resource({"/": Pairs}))
    client = connect(server)
    release = threading.Event()
    blocked = threading.Thread(target=server.call, args=(release.wait, 60))  # what comes now comes in one poll
    blocked.start()
    for number in range(6):
        client.send(str(number))
    release.set()
    blocked.join()
    assert [client.recv() for _ in range(3)] == ["'0' '1'", "'2' '3'", "'4' '5'"]


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_the_end_wakes_an_on_message_that_receives_and_then_calls_on_close(
    serve: Serve, connect: Connect, how: str
) -> None:
    class Waits(Logging):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send("waits")
            self.log.append([*self.ws, self.ws.receive()])

    client = connect(serve(Resource({"/": Waits})))
    client.send("hi")
    assert client.recv() == "waits"
    client.send("more")
    if how == "close":
        client.close(4001, b"bye")
    else:
        client.shutdown()
    end = "closed with 4001 bye" if how == "close" else "closed with 1006"
    eventually(lambda: Waits.log == [["more", None], end], f"it hears of the end: {Waits.log}")
    eventually(Waits.gone, "nothing holds it")


def test_on_close_is_called_when_on_open_has_received_the_end(serve: Serve, connect: Connect) -> None:
    class Opens(Logging):
        def on_open(self) -> None:
            self.log.append(self.ws.receive())
            self.log.append(self.ws.receive())

    client = connect(serve(Resource({"/": Opens})))
    client.send("hi")
    client.close(4001, b"bye")
    eventually(lambda: Opens.log == ["hi", None, "closed with 4001 bye"], f"it hears of the end: {Opens.log}")


def test_two_greenlets_do_not_receive_beside_a_handler(serve: Serve, connect: Connect) -> None:
    class Twice(Logging):
        def on_message(self, message: str | bytes) -> None:
            other = spawn(self.ws.receive)
            while self.ws._waiter is None:
                sleep(0)
            with pytest.raises(LocalProtocolError, match="another greenlet receives"):
                self.ws.receive()
            self.ws.send("conflict")
            self.ws.send(f"other {other.get()!r}")

    client = connect(serve(Resource({"/": Twice})))
    client.send("hi")
    assert client.recv() == "conflict"
    client.send("one")
    assert client.recv() == "other 'one'"


def receive_into(log: list[Any], websocket: WebSocket) -> None:
    """Keeps what it gets, and what ends it."""
    try:
        log.extend(websocket)
    except LocalProtocolError as error:
        log.append(str(error))


@pytest.mark.parametrize("waits", [False, True])
def test_a_greenlet_beside_a_handler_is_told_that_messages_are_for_that(
    serve: Serve, connect: Connect, waits: bool
) -> None:
    heard: list[Any] = []

    class Beside(Logging):
        def on_open(self) -> None:
            spawn(receive_into, heard, self.ws)
            while waits and self.ws._waiter is None:
                sleep(0)

        def on_message(self, message: str | bytes) -> None:
            self.ws.send(f"handled {message!r}")

    client = connect(serve(Resource({"/": Beside})))
    eventually(lambda: len(heard) == 1, "it is told")
    assert "for the handler" in heard[0] if waits else "for its handler" in heard[0]
    client.send("one")
    assert client.recv() == "handled 'one'"
    client.close()
    eventually(lambda: len(Beside.log) == 1 and Beside.gone(), "nothing holds it")


def test_a_greenlet_that_outlives_its_on_message_is_told_that_messages_are_for_the_handler(
    serve: Serve, connect: Connect
) -> None:
    heard: list[Any] = []

    class Leaves(Logging):
        def on_message(self, message: str | bytes) -> None:
            if message == "hi":
                spawn(receive_into, heard, self.ws)
                while self.ws._waiter is None:
                    sleep(0)
            self.ws.send(f"handled {message!r}")

    client = connect(serve(Resource({"/": Leaves})))
    for message in ["hi", "one"]:
        client.send(message)
        assert client.recv() == f"handled {message!r}"
    eventually(lambda: len(heard) == 1, "it is told")
    assert "method of the handler" in heard[0]


# ---- the end, while a method runs


@pytest.mark.parametrize("own", ["returns", "closes", "raises"])
def test_a_handler_that_is_busy_when_its_client_leaves_hears_of_the_end(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, own: str
) -> None:
    class Busy(Logging):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send("busy")
            while not self.ws._inbox:  # the Close
                sleep(0.001)
            if own == "closes":
                self.ws.close(4000)
            if own == "raises":
                raise RuntimeError("on_message failed")

    client = connect(serve(Resource({"/": Busy})))
    client.send("hi")
    assert client.recv() == "busy"
    client.close(4001, b"bye")
    eventually(lambda: Busy.log == ["closed with 4001 bye"], f"it hears of the end: {Busy.log}")
    assert ("on_message failed" in caplog.text) == (own == "raises")
    if own != "raises":  # the records of the log hold the traceback
        eventually(Busy.gone, "nothing holds it")


@pytest.mark.parametrize("several", [False, True])
def test_a_handler_whose_client_has_left_may_send_without_a_complaint(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, several: bool
) -> None:
    class Late(Logging):
        def on_message(self, message: str | bytes) -> None:
            while message == "wait" and not self.ws._inbox:  # the Close
                sleep(0.001)
            try:
                self.ws.send("late")
            except WebSocketClosed as closed:
                self.log.append(str(closed))
                raise

    server = serve(Resource({"/": Late}))
    clients = [connect(server) for _ in range(2 if several else 1)]
    for client in clients:
        client.send("wait")
    for client in clients:
        client.close(4001, b"bye")
    expected = ["the WebSocket has ended with 4001: bye", "closed with 4001 bye"] * len(clients)
    eventually(lambda: sorted(Late.log) == sorted(expected), f"each hears of its end: {Late.log}")
    assert "failed" not in caplog.text


def test_a_handler_that_fails_on_the_end_of_another_connection_is_reported(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    others: list[WebSocket] = []

    class Relay(Logging):
        def on_open(self) -> None:
            others.append(self.ws)

        def on_message(self, message: str | bytes) -> None:
            others[0].send(message)

    server = serve(Resource({"/": Relay}))
    gone = connect(server)
    client = connect(server)
    gone.close()
    eventually(lambda: len(Relay.log) == 1, "the other has gone")
    client.send("for the other")
    assert client.recv_data()[1] == b"\x03\xf3"
    log_with(caplog, "the handler of a WebSocket failed the WebSocket has ended with 1000")
