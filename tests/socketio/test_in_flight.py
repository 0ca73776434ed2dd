"""A client that sends faster than its handlers return: so many run at once, the next wait, and it is stopped."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest
import requests
from greenlet import GreenletExit

from streamserve.core import lib
from streamserve.engine.server import EngineServer
from streamserve.loop.joining import sleep
from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from streamserve.websocket.inbox import Inbox
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import left_behind
from tests.socketio.test_protocol import Wire
from tests.support.frames import frame
from tests.support.server import Running, eventually

MOST = 20
Open = Callable[[Any], Wire]
Said = list[str | bytes]
WAYS: dict[str, Callable[[int], Said]] = {
    "event": lambda number: [f'42["wait",{number}]'],
    "with an attachment": lambda number: [f'451-["wait",{number},{{"_placeholder":true,"num":0}}]', b"x"],
    "for Python to read": lambda number: [f'421234567890["wait",{number}]'],
}


class Desk:
    """A server whose handlers wait until they are let go, and write down who began."""

    def __init__(self, **options: Any) -> None:
        self.sio = SocketIOServer(max_events=MOST, **options)
        self.gate, self.began = Event(), []
        self.sio.on("wait", self._wait)

    def _wait(self, sid: str, number: int, *data: bytes) -> None:
        self.began.append(number)
        self.gate.wait()

    def open(self) -> None:
        self.sio.eio.in_loop(self.gate.set)


@pytest.fixture
def wire(host: Host) -> Iterator[Open]:
    """Joins a server as its client."""
    with ExitStack() as stack:

        def connect(sio: SocketIOServer) -> Wire:
            wire = Wire(host(sio).port)
            stack.callback(wire.connection.shutdown)
            wire.join()
            return wire

        yield connect


def polling(server: Running, join: str = "40", joined: str = "40{") -> str:
    """The URL of a new client that has joined."""
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    assert requests.post(url, data=join, timeout=60).text == "ok"
    assert requests.get(url, timeout=60).text.startswith(joined)
    return url


class Posting(threading.Thread):
    """A POST that may have to wait for its answer."""

    def __init__(self, url: str, packets: list[str]) -> None:
        super().__init__()
        self._url, self._body = url, "\x1e".join(packets)
        self.answers: list[str] = []
        self.start()

    def run(self) -> None:
        """Writes down the answer."""
        self.answers.append(requests.post(self._url, data=self._body, timeout=60).text)


@pytest.mark.parametrize("say", WAYS.values(), ids=list(WAYS))
def test_so_many_run_at_once_and_the_others_begin_in_order(wire: Open, say: Callable[[int], Said]) -> None:
    desk = Desk()
    client = wire(desk.sio)
    for number in range(3 * MOST):
        client.send(*say(number))
    (session,) = desk.sio.eio.sockets.values()
    count = (2 * MOST - 1) * len(say(0))
    eventually(lambda: session._inbox is not None and len(session._inbox) == count, "all have come")
    assert desk.began == [*range(MOST)]
    desk.open()
    eventually(lambda: desk.began == [*range(3 * MOST)], "all have begun")
    eventually(lambda: session.room == MOST and not session.crowd, "all are over")


def test_so_many_of_a_post_run_at_once_and_the_others_begin_in_order(host: Host) -> None:
    desk = Desk()
    url = polling(host(desk.sio))
    (session,) = desk.sio.eio.sockets.values()
    with ExitStack() as stack:
        stack.callback(desk.open)
        posting = Posting(url, [f'42["wait",{number}]' for number in range(3 * MOST)])
        eventually(lambda: session.crowd, "so many have begun")
        assert desk.began == [*range(MOST)]
    posting.join(60)
    assert posting.answers == ["ok"]
    eventually(lambda: desk.began == [*range(3 * MOST)], "all have begun")
    eventually(lambda: session.room == MOST, "all are over")


def test_messages_of_an_engine_alone_wait_too(host: Callable[[Any], Running]) -> None:
    engine, gate, began = EngineServer(max_events=MOST), Event(), []
    engine.on("message", lambda sid, data: began.append(data) or gate.wait())
    server = host(lambda environ, start: engine.handle_request(environ, start))
    with ExitStack() as stack:
        client = Wire(server.port)
        stack.callback(client.connection.shutdown)
        for number in range(3 * MOST):
            client.send(f"4message {number}")
        (session,) = engine.sockets.values()
        eventually(lambda: session._inbox is not None and len(session._inbox) == 2 * MOST - 1, "all have come")
        eventually(lambda: began == [f"message {number}" for number in range(MOST)], "as many as may have begun")
        engine.in_loop(gate.set)
        eventually(lambda: began == [f"message {number}" for number in range(3 * MOST)], "all have begun")


def test_the_answers_for_which_handlers_wait_come_through(wire: Open) -> None:
    sio, answers = SocketIOServer(max_events=2), []
    sio.on("ask", lambda sid: answers.append(sio.call("question", to=sid)))
    client = wire(sio)
    client.send(*['42["ask"]'] * 6)
    for number in range(1, 7):
        assert client.receive() == f'42{number}["question"]'
        client.send(f"43{number}[{number}]")
    eventually(lambda: answers == [1, 2, 3, 4, 5, 6], "all are answered")


def asking(**options: Any) -> tuple[SocketIOServer, list[Any]]:
    """A server with a handler that asks its client, and what it was answered."""
    sio, answers = SocketIOServer(max_events=1, **options), []
    sio.on("ask", lambda sid: answers.append(sio.call("question", to=sid, timeout=60)))
    return sio, answers


PLACE = '{"_placeholder":true,"num":%d}'
ACKS: dict[str, Said] = {
    "text": ["431[1]"],
    "for Python to read": ['43/,1["long enough"]'],
    "one attachment": [f"461-1[{PLACE % 0}]", b"x"],
    "two attachments": [f"462-1[{PLACE % 1},{PLACE % 0}]", b"x", b"y"],
}


@pytest.mark.parametrize("kind", ["event", "with an attachment"])
@pytest.mark.parametrize("ack", ACKS.values(), ids=list(ACKS))
def test_every_kind_of_answer_comes_through(wire: Open, ack: Said, kind: str) -> None:
    sio, answers = asking()
    began = []
    sio.on("wait", lambda sid, *data: began.append(data))
    client = wire(sio)
    client.send('42["ask"]')
    assert client.receive() == '421["question"]'
    client.send(*WAYS[kind](0), *WAYS[kind](1))
    (session,) = sio.eio.sockets.values()
    for part in ack:  # each alone: what is not whole waits for the rest, whatever else happens meanwhile
        eventually(lambda: session.crowd, "an event waits")
        assert not answers and not began
        client.send(part)
    eventually(lambda: answers and len(began) == 2, "it is answered, and the others begin")
    assert session.begun_answer is None
    client.send('422["wait",2]')
    assert client.receive() == "432[]"


def test_answers_in_messagepack_come_through(host: Host) -> None:
    sio, answers = asking(serializer="msgpack")
    with ExitStack() as stack:
        client = Wire(host(sio).port)
        stack.callback(client.connection.shutdown)
        client.send(msgpack.dumps({"type": 0, "nsp": "/"}))
        client.receive()
        ask = msgpack.dumps({"type": 2, "nsp": "/", "data": ["ask"]})
        client.send(ask, ask)
        for number in (1, 2):
            assert msgpack.loads(client.receive())["id"] == number
            client.send(msgpack.dumps({"type": 3, "nsp": "/", "id": number, "data": [b"x"]}))
        eventually(lambda: answers == [b"x", b"x"], "both are answered")


def test_answers_that_came_before_the_wait_come_through(wire: Open) -> None:
    sio, answers = asking()
    gate, joined = Event(), []
    sio.on("connect", lambda sid, environ: joined.append(gate.wait()) and None, namespace="/late")
    sio.on("wait", lambda sid, number: None)
    client = wire(sio)
    client.send('42["ask"]')
    assert client.receive() == '421["question"]'
    client.send("40/late,", '42["wait",0]', *ACKS["text"], '42["wait",1]')
    (session,) = sio.eio.sockets.values()
    eventually(lambda: len(session._inbox or ()) == 3, "all have come")
    assert not answers
    sio.eio.in_loop(gate.set)
    eventually(lambda: answers == [1], "it is answered")


@pytest.mark.parametrize("then", ['42["wait",0]', "43/,2[]", "2"])
def test_what_comes_instead_of_an_attachment_ends_the_client(wire: Open, then: str) -> None:
    sio, _ = asking()
    client = wire(sio)
    client.send(*['42["ask"]'] * 2)
    assert client.receive() == '421["question"]'
    (session,) = sio.eio.sockets.values()
    eventually(lambda: session.crowd, "an event waits")
    client.send(ACKS["one attachment"][0], then)
    eventually(lambda: session.ended, "it is ended")


def test_one_handler_that_ends_lets_one_event_begin(wire: Open) -> None:
    desk, quick = Desk(), Event()
    desk.sio.on("quick", lambda sid: quick.wait())
    desk.sio.on("go", lambda sid: desk.gate.set())
    client = wire(desk.sio)
    client.send(*['42["wait",0]'] * (MOST - 1), '42["quick"]', '42["go"]', '421["go"]')
    (session,) = desk.sio.eio.sockets.values()
    eventually(lambda: session.crowd and session._inbox, "all have come")
    desk.sio.eio.in_loop(quick.set)
    assert client.receive() == "431[]"
    eventually(lambda: session.room == MOST and not session.crowd, "all are over")


@pytest.mark.parametrize("say", WAYS.values(), ids=list(WAYS))
def test_a_wait_that_is_killed_drops_its_event_and_no_other(host: Host, say: Callable[[int], Said]) -> None:
    desk = Desk()
    server = host(desk.sio)
    with ExitStack() as stack:
        client = Wire(server.port)
        stack.callback(client.connection.shutdown)
        client.join()
        for number in range(MOST + 3):
            client.send(*say(number))
        (session,) = desk.sio.eio.sockets.values()
        eventually(lambda: session.crowd and len(session._inbox) == 2 * len(say(0)), "all have come")
        server.call(lambda: session.crowd[0].fail(GreenletExit()))
        eventually(lambda: len(session._inbox) == len(say(0)), "the next one waits")
        assert session.room == 0 and desk.began == [*range(MOST)]
        desk.open()
        others = [*range(MOST), MOST + 1, MOST + 2]
        eventually(lambda: desk.began == others and session.room == MOST, "the others have begun")


def test_what_waits_is_not_moved_for_each_event_that_begins(wire: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sio, ended, moved = SocketIOServer(max_events=2), [], []
    sio.on("short", lambda sid, number: (sleep(0), ended.append(number)))
    put = Inbox.put
    monkeypatch.setattr(Inbox, "put", lambda inbox, message: (moved.append(1), put(inbox, message)))
    client = wire(sio)
    client.connection.sock.sendall(b"".join(frame(lib.SS_WS_TEXT, b'42["short",%d]' % n) for n in range(3000)))
    eventually(lambda: len(ended) == 3000, "all are over")
    assert ended == [*range(3000)]
    assert 0 < len(moved) < 3000


@pytest.mark.parametrize("say", WAYS.values(), ids=list(WAYS))
def test_handlers_that_wait_for_the_end_of_their_client_see_it(wire: Open, say: Callable[[int], Said]) -> None:
    sio, ended = SocketIOServer(max_events=2), []

    def wait(sid: str, number: int, *data: bytes) -> None:
        while sio.manager.is_connected(sid, "/"):
            sleep(0.01)
        ended.append(number)

    sio.on("wait", wait)
    client = wire(sio)
    for number in range(5):
        client.send(*say(number))
    (session,) = sio.eio.sockets.values()
    eventually(lambda: session.crowd and len(session._inbox or ()) == 2 * len(say(0)), "all have come")
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio) and len(ended) >= 2, "nothing is left")


@pytest.mark.parametrize("thread", ["loop", "another"])
def test_the_end_of_a_client_that_polls_lets_its_post_end(host: Host, thread: str) -> None:
    desk = Desk()
    server = host(desk.sio)
    url = polling(server)
    (session,) = desk.sio.eio.sockets.values()
    posting = Posting(url, ['42["wait",0]'] * (2 * MOST))
    eventually(lambda: session.crowd, "so many have begun")
    if thread == "loop":
        server.spawn(desk.sio.eio.disconnect, session.sid).result(60)
    else:
        desk.sio.eio.disconnect(session.sid)
    eventually(lambda: not session.crowd and not left_behind(desk.sio), "nothing is left")
    posting.join(60)
    assert len(posting.answers) == 1 and len(desk.began) == MOST
    desk.open()
    eventually(lambda: not server.waiters(), "nobody waits")


def test_who_sends_on_is_not_read(wire: Open) -> None:
    desk = Desk()
    client = wire(desk.sio)
    client.connection.sock.sendall(frame(lib.SS_WS_TEXT, b'42["wait",0]') * 20_000)
    (session,) = desk.sio.eio.sockets.values()
    try:
        eventually(lambda: session._inbox is not None and session._inbox.paused, "it is not read")
        assert len(desk.began) == MOST
    finally:
        desk.open()
    eventually(lambda: len(desk.began) == 20_000, "all are dealt with")


def test_who_is_not_read_is_not_called_silent(host: Host) -> None:
    desk = Desk(ping_interval=0.05, ping_timeout=60)
    server = host(desk.sio)
    with ExitStack() as stack:
        stack.callback(desk.open)
        client = Wire(server.port)
        stack.callback(client.connection.shutdown)
        client.join()
        client.connection.sock.sendall(frame(lib.SS_WS_TEXT, b'42["wait",0]') * 20_000)
        (session,) = desk.sio.eio.sockets.values()
        eventually(lambda: session._inbox is not None and session._inbox.paused, "it is not read")

        def patient_for(seconds: float) -> None:
            desk.sio.eio.ping_timeout = seconds
            server.call(lib.ss_engine_begin, server.hub.core, session.handle, desk.sio.eio.config())

        witness = Wire(server.port)
        stack.callback(witness.connection.shutdown)
        patient_for(1)  # not before: however slow this machine is, it is read up to here, and has not answered
        for _ in range(25):  # 1.25 seconds
            assert witness.connection.recv() == "2"
            witness.send("3")
        assert session.ended is None
        patient_for(60)
        desk.open()
        eventually(lambda: len(desk.began) == 20_000, "all are dealt with")
