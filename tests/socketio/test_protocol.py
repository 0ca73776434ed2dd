"""Socket.IO 5 on the wire: each promise of its specification, as Node's server keeps it (docs/socket.io-protocol)."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import websocket

from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host

PLACEHOLDERS = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'


class Wire:
    """A client by WebSocket, which has joined nothing; pings are answered, and not shown."""

    def __init__(self, port: int) -> None:
        url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
        self.connection = websocket.create_connection(url, timeout=60)
        assert self.receive()[0] == "0"

    def send(self, *messages: str | bytes) -> None:
        for message in messages:
            if isinstance(message, bytes):
                self.connection.send_binary(message)
            else:
                self.connection.send(message)

    def receive(self) -> Any:
        while (message := self.connection.recv()) == "2":
            self.connection.send("3")
        return message

    def join(self, namespace: str = "", auth: str = "") -> dict[str, Any]:
        """Joins a namespace; returns what the server says to that."""
        prefix = f"{namespace}," if namespace else ""
        self.send(f"40{prefix}{auth}")
        answer = self.receive()
        assert answer.startswith(f"40{prefix}"), answer
        return dict(json.loads(answer[2 + len(prefix) :]))

    def is_closed(self) -> bool:
        """Waits for the next message, which must be the end."""
        return self.connection.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE


@pytest.fixture
def sio() -> SocketIOServer:
    """It tells a client what its auth was, says messages back, and acknowledges with what it got."""
    sio = SocketIOServer()
    for namespace in ("/", "/custom"):
        told = {"namespace": namespace}

        def connected(sid: str, environ: Any, auth: Any = None, told: dict[str, str] = told) -> None:
            sio.emit("auth", auth or {}, to=sid, **told)

        def back(sid: str, *data: Any, told: dict[str, str] = told) -> None:
            sio.emit("message-back", data, to=sid, **told)

        sio.on("connect", connected, namespace=namespace)
        sio.on("message", back, namespace=namespace)
        sio.on("message-with-ack", lambda sid, *data: data, namespace=namespace)
    return sio


@pytest.fixture
def wire(sio: SocketIOServer, host: Host) -> Iterator[Wire]:
    with ExitStack() as stack:
        wire = Wire(host(sio).port)
        stack.callback(wire.connection.shutdown)
        yield wire


# ---- joining a namespace


@pytest.mark.parametrize("auth", ["", '{"token":"123"}'])
@pytest.mark.parametrize("namespace", ["", "/custom"])
def test_a_client_joins_before_it_hears_anything(wire: Wire, namespace: str, auth: str) -> None:
    answer = wire.join(namespace, auth)
    assert list(answer) == ["sid"] and isinstance(answer["sid"], str)
    prefix = f"{namespace}," if namespace else ""
    assert wire.receive() == f'42{prefix}["auth",{auth or "{}"}]'


def test_each_namespace_gives_a_name_of_its_own(wire: Wire) -> None:
    first = wire.join()["sid"]
    wire.receive()
    assert wire.join("/custom")["sid"] != first


@pytest.mark.parametrize("packet", ["40/random", "40/random,", '40/random,{"token":1}'])
def test_a_namespace_that_nobody_serves_is_refused(wire: Wire, packet: str) -> None:
    wire.send(packet)
    assert wire.receive() == '44/random,{"message":"Invalid namespace"}'
    wire.join()


def test_what_is_sent_to_a_client_that_is_refused_is_dropped(sio: SocketIOServer, host: Host) -> None:
    def refuse(sid: str, environ: Any, auth: Any = None) -> bool:
        sio.emit("secret", b"attached", namespace="/custom")
        sio.send("to the main one")
        return False

    sio.on("connect", refuse, namespace="/custom")
    wire = Wire(host(sio).port)
    wire.join()
    wire.receive()
    wire.send("40/custom,")
    assert wire.receive() == '42["message","to the main one"]'
    assert wire.receive().startswith("44/custom,")
    wire.send('42["message"]')
    assert wire.receive() == '42["message-back"]'
    wire.connection.shutdown()


def test_a_query_behind_a_namespace_is_not_part_of_its_name(wire: Wire) -> None:
    wire.send("40/custom?a=b,")
    assert wire.receive().startswith('40/custom,{"sid":')


# ---- leaving one


def test_who_leaves_the_last_namespace_stays_connected(sio: SocketIOServer, host: Host) -> None:
    sio.eio.ping_interval = 0.05
    wire = Wire(host(sio).port)
    wire.join()
    wire.receive()
    wire.send("41")
    assert wire.connection.recv() == "2"
    wire.connection.shutdown()


def test_who_leaves_one_namespace_is_heard_in_the_others(wire: Wire) -> None:
    wire.join()
    wire.receive()
    wire.join("/custom")
    wire.receive()
    wire.send("41/custom", '42/custom,["message","lost"]', '42["message","to the main one"]')
    assert wire.receive() == '42["message-back","to the main one"]'


# ---- events and acknowledgements


@pytest.fixture
def joined(wire: Wire) -> Wire:
    wire.join()
    assert wire.receive() == '42["auth",{}]'
    return wire


def test_text_is_said_back_as_it_came(joined: Wire) -> None:
    joined.send('42["message",1,"2",{"3":[true]}]')
    assert joined.receive() == '42["message-back",1,"2",{"3":[true]}]'


def test_attachments_are_said_back_behind_their_event(joined: Wire) -> None:
    joined.send(f'452-["message",{PLACEHOLDERS}]', b"\x01\x02\x03", b"\x04\x05\x06")
    assert [joined.receive() for _ in range(3)] == [
        f'452-["message-back",{PLACEHOLDERS}]',
        b"\x01\x02\x03",
        b"\x04\x05\x06",
    ]


def test_an_acknowledgement_carries_the_number_of_its_event(joined: Wire) -> None:
    joined.send('42456["message-with-ack",1,"2",{"3":[false]}]')
    assert joined.receive() == '43456[1,"2",{"3":[false]}]'


def test_an_acknowledgement_may_have_attachments(joined: Wire) -> None:
    joined.send(f'452-789["message-with-ack",{PLACEHOLDERS}]', b"\x01\x02\x03", b"\x04\x05\x06")
    assert [joined.receive() for _ in range(3)] == [f"462-789[{PLACEHOLDERS}]", b"\x01\x02\x03", b"\x04\x05\x06"]


# ---- what is no packet


@pytest.mark.parametrize(
    "packet",
    [
        "4abc",
        "42{}",
        '42abc["message-with-ack",1]',
        '42["connect",{"token":"forged"}]',
        '42["disconnect","forged"]',
        "40",
        "42" + "[" * 100_000,
    ],
)
def test_what_is_no_packet_ends_the_connection(sio: SocketIOServer, joined: Wire, packet: str) -> None:
    forged: list[Any] = []
    sio.on("disconnect", lambda sid, reason: forged.append(reason) if reason == "forged" else None)
    joined.send(packet)
    assert joined.is_closed()
    assert not forged


@pytest.mark.parametrize(
    "event", ['"disconnect",{"_placeholder":true,"num":0}', '"message",{"_placeholder":true,"num":1}']
)
def test_what_is_no_packet_once_its_attachment_came_ends_the_connection(joined: Wire, event: str) -> None:
    joined.send(f"451-[{event}]", b"\x00")
    assert joined.is_closed()


def test_what_is_no_packet_ends_a_connection_that_has_joined_nothing(wire: Wire) -> None:
    wire.send("4abc")
    assert wire.is_closed()


def test_an_event_before_a_namespace_is_joined_ends_the_connection_as_nodes_server_does(wire: Wire) -> None:
    wire.send('421["message-with-ack",1]')
    assert wire.is_closed()
