"""In which order a client's packets are dealt with, and which of them wait for which."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import websocket

from streamserve.core import lib
from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from tests.socketio.conftest import Host
from tests.support.frames import frame
from tests.support.logs import log_with
from tests.support.server import eventually

TEXT = lib.SS_WS_TEXT
HANDSHAKE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Wire = websocket.WebSocket
Open = Callable[[SocketIOServer], Wire]


@pytest.fixture
def wire(host: Host) -> Iterator[Open]:
    """A raw WebSocket that has read the open packet."""
    with ExitStack() as stack:

        def connect(sio: SocketIOServer) -> Wire:
            url = f"ws://127.0.0.1:{host(sio).port}/socket.io/?EIO=4&transport=websocket"
            client = websocket.create_connection(url, timeout=60)
            stack.callback(client.shutdown)
            assert client.recv().startswith("0{")
            return client

        yield connect


def joined(client: Wire) -> str:
    client.send("40")
    answer = client.recv()
    assert answer.startswith("40{")
    return str(json.loads(answer[2:])["sid"])


def test_what_comes_while_a_connect_handler_waits_is_dealt_with_after_it_in_order(wire: Open) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("connect", lambda sid, environ: log.append(("connect", gate.wait())))
    sio.on("event", lambda sid, number: log.append(number))
    sio.on("disconnect", lambda sid, reason: log.append(reason))
    client = wire(sio)
    client.send("40")
    for number in range(20):
        client.send(f'42["event",{number}]')
    client.send("41")
    (session,) = sio.eio.sockets.values()
    eventually(lambda: session._inbox is not None and len(session._inbox) == 21, "all have come")
    assert log == []
    sio.eio.in_loop(gate.set)
    assert client.recv().startswith("40{")
    client.send("430[]")  # of no namespace any more: ignored, but behind all else
    client.send("2")  # a client does not ping: the end
    assert client.recv() == ""
    assert log == [("connect", True), *range(20), "client disconnect"]


def test_attachments_that_come_while_a_connect_handler_waits_find_their_event(wire: Open) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("connect", lambda sid, environ: log.append(("connect", gate.wait())))
    sio.on("event", lambda sid, *data: log.append(data))
    client = wire(sio)
    client.send("40")
    places = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in (1, 0))
    for number in range(3):
        client.send(f'452-["event",{number},{places}]')
        client.send_binary(b"first")
        client.send_binary(b"second")
        client.send(f'42["event",{number}]')
    (session,) = sio.eio.sockets.values()
    eventually(lambda: session._inbox is not None and len(session._inbox) == 12, "all have come")
    sio.eio.in_loop(gate.set)
    parts = [part for number in range(3) for part in ((number, b"second", b"first"), (number,))]
    eventually(lambda: log == [("connect", True), *parts], "all is dealt with, in order")


def test_events_run_beside_each_other(wire: Open) -> None:
    sio, gate = SocketIOServer(), Event()
    sio.on("slow", lambda sid: gate.wait() and "slow")
    sio.on("quick", lambda sid: gate.set() or "quick")
    client = wire(sio)
    joined(client)
    client.send('421["slow"]')
    client.send('422["quick"]')
    assert {client.recv(), client.recv()} == {'431["slow"]', '432["quick"]'}


def test_without_async_handlers_one_waits_for_the_other(wire: Open) -> None:
    sio, gate, log = SocketIOServer(async_handlers=False), Event(), []
    sio.on("slow", lambda sid: log.append("slow begins") or (gate.wait() and log.append("slow ends")))
    sio.on("quick", lambda sid: log.append("quick"))
    client = wire(sio)
    joined(client)
    client.send('421["slow"]')
    client.send('422["quick"]')
    eventually(lambda: log == ["slow begins"], "the first runs")
    sio.eio.in_loop(gate.set)
    assert [client.recv(), client.recv()] == ["431[]", "432[]"]
    assert log == ["slow begins", "slow ends", "quick"]


@pytest.mark.parametrize("packet", ['421["bad"]', '421234567890["bad"]'], ids=["core", "python"])
def test_a_handler_that_fails_is_reported_and_others_go_on(
    wire: Open, packet: str, caplog: pytest.LogCaptureFixture
) -> None:
    sio = SocketIOServer()
    sio.on("bad", lambda sid: 1 / 0)
    sio.on("good", lambda sid: "good")
    client = wire(sio)
    joined(client)
    client.send(packet)
    client.send('422["good"]')
    assert client.recv() == '432["good"]'
    assert "division by zero" in log_with(caplog, "handler of 'bad' failed")


def test_handlers_begin_in_the_order_of_their_events(wire: Open) -> None:
    sio, log = SocketIOServer(), []
    sio.on("event", lambda sid, number, *data: log.append(number))
    client = wire(sio)
    joined(client)
    attached = frame(TEXT, b'451-["event",0,{"_placeholder":true,"num":0}]') + frame(lib.SS_WS_BINARY, b"x")
    others = [frame(TEXT, f'42{id}["event",{number}]'.encode()) for number, id in enumerate(["", 10**12, ""], 1)]
    client.sock.sendall(attached + b"".join(others))
    eventually(lambda: len(log) == 4, "all are dealt with")
    assert log == [0, 1, 2, 3]


@pytest.mark.parametrize("skipped", [1, 40])
def test_a_broadcast_leaves_out_whom_it_is_told_to(wire: Open, host: Host, skipped: int) -> None:
    sio = SocketIOServer()
    sids: list[str] = []
    sio.on("connect", lambda sid, environ: sids.append(sid))
    sio.on("tell", lambda sid, number: sio.emit("told", number, skip_sid=sids[:skipped]))
    first = wire(sio)
    joined(first)
    url = f"ws://127.0.0.1:{first.sock.getpeername()[1]}/socket.io/?EIO=4&transport=websocket"
    clients = [first]
    with ExitStack() as stack:
        for _ in range(skipped):
            client = websocket.create_connection(url, timeout=60)
            stack.callback(client.shutdown)
            assert client.recv().startswith("0{")
            joined(client)
            clients.append(client)
        last = clients[-1]
        last.send('42["tell",7]')
        assert last.recv() == '42["told",7]'
        sio.eio.in_loop(sio.emit, "all")
        assert [client.recv() for client in clients] == ['42["all"]'] * len(clients)


def test_a_broadcast_reaches_each_transport_and_namespace_once(wire: Open) -> None:
    sio = SocketIOServer(namespaces="*")
    sio.on("to_room", lambda sid, data: sio.emit("here", data, to=["a", "b"], namespace="/x"), namespace="/x")
    sio.on("enter", lambda sid, room: sio.enter_room(sid, room, namespace="/x"), namespace="/x")
    client = wire(sio)
    client.send("40/x,")
    assert client.recv().startswith("40/x,{")
    for message in ('42/x,1["enter","a"]', '42/x,2["enter","b"]'):
        client.send(message)
        assert client.recv() == f"43/x,{message[5]}[]"
    client.send('42/x,["to_room",{"é":[1]}]')
    assert client.recv() == '42/x,["here",{"\\u00e9":[1]}]'
    client.send('42/x,9["to_room","end"]')
    assert client.recv() == '42/x,["here","end"]'
    assert client.recv() == "43/x,9[]"


def test_emits_of_one_turn_leave_in_order(wire: Open) -> None:
    sio = SocketIOServer()

    def burst(sid: str) -> None:
        for number in range(200):
            sio.emit("n", number, to=sid if number % 3 else None)
            if number == 100:
                sio.emit("bytes", b"\x00\x01")

    sio.on("burst", burst)
    client = wire(sio)
    joined(client)
    client.send('42["burst"]')
    got: list[Any] = [client.recv() for _ in range(202)]
    expected: list[Any] = [f'42["n",{number}]' for number in range(200)]
    expected[101:101] = ['451-["bytes",{"_placeholder":true,"num":0}]', b"\x00\x01"]
    assert got == expected


def changing(sio: SocketIOServer, host: Host, stack: ExitStack) -> Wire:
    """A WebSocket to which a client that polls is about to change."""
    base = f"127.0.0.1:{host(sio).port}/socket.io/?EIO=4"
    sid = json.loads(requests.get(f"http://{base}&transport=polling", timeout=60).text[1:])["sid"]
    client = websocket.create_connection(f"ws://{base}&transport=websocket&sid={sid}", timeout=60)
    stack.callback(client.shutdown)
    client.send("2probe")
    assert client.recv() == "3probe"
    return client


def test_what_comes_with_the_change_is_dealt_with_in_order(host: Host) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("connect", lambda sid, environ: log.append(("connect", gate.wait())))
    sio.on("event", lambda sid, number: log.append(number))
    with ExitStack() as stack:
        client = changing(sio, host, stack)
        client.sock.sendall(b"".join(frame(TEXT, text) for text in (b"5", b"40", b'42["event",0]')))
        eventually(lambda: log == [] and sio.manager.pending_connect, "the handler waits")
        client.send('42["event",1]')
        (session,) = sio.eio.sockets.values()
        eventually(lambda: session._inbox is not None and len(session._inbox) == 2, "all have come")
        sio.eio.in_loop(gate.set)
        eventually(lambda: log == [("connect", True), 0, 1], "all is dealt with, in order")


def test_who_leaves_with_the_change_leaves_nothing(host: Host) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        client = changing(sio, host, stack)
        client.sock.sendall(frame(TEXT, b"5") + frame(TEXT, b"40") + frame(lib.SS_WS_CLOSE))
        client.sock.shutdown(socket.SHUT_WR)
        eventually(lambda: not sio.eio.sockets and not sio.environ and not sio.manager.rooms, "nothing is left")


def test_what_is_no_packet_ends_a_connection_that_has_just_changed(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        client = changing(sio, host, stack)
        client.sock.sendall(frame(TEXT, b"5") + frame(TEXT, b"4abc"))
        assert client.recv_data() == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xea")
        eventually(lambda: not sio.eio.sockets, "nothing is left")
    assert "failed" not in caplog.text


def test_the_handshake_and_the_open_packet_come_together(host: Host) -> None:
    port = host(SocketIOServer()).port
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(HANDSHAKE)
        head, _, frame = client.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ") and frame[2:].lstrip(b"\x00").startswith(b'0{"sid":')


def test_a_client_that_sends_much_while_its_handler_waits_is_stopped_however_short_each_is(wire: Open) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("connect", lambda sid, environ: gate.wait() and None)
    sio.on("e", lambda sid: log.append(1))
    client = wire(sio)
    client.send("40")
    client.sock.sendall(frame(TEXT, b'42["e"]') * 20_000)
    (session,) = sio.eio.sockets.values()
    try:
        eventually(lambda: session._inbox is not None and session._inbox.paused, "it is not read")
    finally:
        sio.eio.in_loop(gate.set)
    eventually(lambda: len(log) == 20_000, "all are dealt with")
