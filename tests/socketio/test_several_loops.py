"""One SocketIOServer under several web servers, each in a native thread: beside each other, and one after the other."""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from streamserve.engine.broadcast import Targets
from streamserve.loop.hubs import get_hub
from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import left_behind
from tests.socketio.test_protocol import Wire
from tests.support.server import Running, eventually
from tests.support.switching import switching
from tests.support.threads import in_threads

VISITS = 25
"""Of one thread."""


def joined(server: Running, stack: ExitStack) -> Wire:
    wire = Wire(server.port)
    stack.callback(wire.connection.shutdown)
    wire.join()
    return wire


def polls(server: Running, joins: bool = True) -> None:
    base = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    sid = json.loads(requests.get(base, timeout=60).text[1:])["sid"]
    if joins:
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


def visits(server: Running, count: int) -> None:
    """Clients of one server come, enter and leave rooms, ask and go, one after the other."""
    for number in range(count):
        wire = Wire(server.port)
        wire.send("40", "40/other,", f'421["enter","{number % 3}"]')
        while wire.receive() != "431[]":
            pass
        wire.send('42["leave"]' if number % 2 else '42["tell"]', "41/other,", '422["echo",1]')
        while wire.receive() != "432[1]":
            pass
        wire.connection.shutdown()


def beside_each_other(servers: list[Running], visit: Callable[[Running], object]) -> None:
    """Runs it in two threads for each server."""
    in_threads([lambda server=server: visit(server) for server in servers * 2])  # type: ignore[misc]


def visited_server() -> SocketIOServer:
    sio = SocketIOServer()
    sio.on("connect", lambda sid, environ: None, namespace="/other")
    sio.on("echo", lambda sid, data: data)
    sio.on("enter", lambda sid, room: sio.enter_room(sid, room))
    sio.on("leave", lambda sid: sio.leave_room(sid, "1"))
    sio.on("tell", lambda sid: [sio.emit("told", room, to=room) for room in ("0", "1", "2", None)] and None)
    return sio


def test_clients_of_two_servers_come_and_go_beside_each_other_and_leave_nothing(host: Host) -> None:
    sio = visited_server()
    servers = [host(sio), host(sio)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        beside_each_other(servers, lambda server: visits(server, 60))
    finally:
        sys.setswitchinterval(interval)
    eventually(lambda: not left_behind(sio), "nothing is left")


def test_so_they_do_where_threads_take_turns_amid_everything(host: Host) -> None:
    sio, gone = visited_server(), []
    sio.on("disconnect", lambda sid, reason: gone.append(sid))

    @sio.event
    def meddle(sid: str) -> None:
        others = [other for other, _ in sio.manager.get_participants("/", None) if other != sid]
        for to in (*others, ["0", "1"]):
            sio.emit("asked", to=to, skip_sid=sid, callback=lambda: None)
        sio.emit("told", to=["0", "2", sid], skip_sid=others)
        sio.emit("told", namespace="/other")
        for other in others[:1]:
            sio.disconnect(other)
        sio.close_room("2")

    def visit(server: Running) -> None:
        for number in range(VISITS):
            wire = Wire(server.port)
            wire.send("40", "40/other,", f'42["enter","{number % 3}"]', '42["tell"]', '42["meddle"]', '421["echo",1]')
            while wire.receive() not in ("431[1]", "41"):  # the latter where another one has it leave
                pass
            wire.connection.shutdown()

    with switching(("/streamserve/engine/", "/streamserve/socketio_server.py", "/socketio/"), 0.02):
        servers = [host(sio), host(sio)]
    beside_each_other(servers, visit)
    eventually(lambda: not left_behind(sio), "nothing is left")
    assert len(gone) == len(set(gone)) == 4 * VISITS


def test_a_room_with_clients_of_both_is_told_by_each_while_they_change(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The array of connections is of one loop: another one's thread must not send by it."""
    sio, own, send = SocketIOServer(), [], Targets.send

    def noted(targets: Targets, *args: Any) -> None:
        own.append(targets._core is get_hub().core)
        send(targets, *args)

    monkeypatch.setattr(Targets, "send", noted)
    sio.on("tell", lambda sid, number: sio.emit("told", number))
    with ExitStack() as stack:
        first, second = host(sio), host(sio)
        here, there = joined(first, stack), joined(second, stack)
        for number, (teller, server) in enumerate([(here, second), (there, first)] * 3):
            teller.send(f'42["tell",{number}]')
            assert [wire.receive() for wire in (here, there)] == [f'42["told",{number}]'] * 2
            polls(server, joins=False)  # the server that had the last new client is another one now
            server.call(sio.emit, "told", "from the loop")
            sio.emit("told", "from a thread")
            for wire in (here, there):
                assert sorted([wire.receive(), wire.receive()]) == [
                    '42["told","from a thread"]',
                    '42["told","from the loop"]',
                ]
    assert own and all(own)
