"""One SocketIOServer under several web servers, each in a native thread: beside each other, and one after the other."""

import json
from contextlib import ExitStack

import requests

from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import left_behind
from tests.socketio.test_protocol import Wire
from tests.support.server import Running, eventually


def joined(server: Running, stack: ExitStack) -> Wire:
    wire = Wire(server.port)
    stack.callback(wire.connection.shutdown)
    wire.join()
    return wire


def polls(server: Running) -> None:
    base = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    sid = json.loads(requests.get(base, timeout=60).text[1:])["sid"]
    assert requests.post(f"{base}&sid={sid}", data="40", timeout=60).text == "ok"


def test_an_event_reaches_the_clients_of_all(host: Host) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        clients = [joined(server, stack) for server in (host(sio), host(sio))]
        sio.emit("tick")
        assert [client.receive() for client in clients] == ['42["tick"]'] * 2


def test_the_clients_of_one_get_events_when_the_other_has_stopped(host: Host) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        first, second = host(sio), host(sio)
        client = joined(first, stack)
        gone = joined(second, stack)
        second.stop()
        assert gone.connection.recv_data()[0] == 8  # and answers, which the stop would wait for
        second.join()
        sio.emit("tick")
        assert client.receive() == '42["tick"]'


def test_who_polled_a_server_that_has_stopped_leaves_when_the_next_one_has_a_client(host: Host) -> None:
    sio, reasons = SocketIOServer(), []
    sio.on("disconnect", lambda sid, reason: reasons.append(reason))
    with ExitStack() as stack:
        first = host(sio)
        polls(first)
        first.stop()
        first.join()
        client = joined(host(sio), stack)
        eventually(lambda: len(sio.eio.sockets) == 1, "the client of the first has left")
        sio.emit("tick")
        assert client.receive() == '42["tick"]'
        client.connection.shutdown()
        eventually(lambda: not left_behind(sio), "nothing is left")
        assert len(reasons) == 2


def test_those_who_are_left_out_may_come_as_any_collection(host: Host) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        server = host(sio)
        clients = [joined(server, stack) for _ in range(2)]
        first, _ = sio.manager.rooms["/"][None]
        for kind in (list, tuple, set):
            sio.emit("tick", kind.__name__, skip_sid=kind([first]))
            assert clients[1].receive() == f'42["tick","{kind.__name__}"]'
        sio.emit("all", skip_sid=[])
        assert clients[0].receive() == '42["all"]'
