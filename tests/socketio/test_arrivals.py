"""A client has some time to join a namespace: who joins none is closed."""

import json
from typing import Any

import requests

from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import Open, left_behind, wire
from tests.support.server import eventually

__all__ = ["wire"]


def test_who_joins_nothing_is_closed_by_websocket(wire: Open) -> None:
    sio = SocketIOServer(connect_timeout=0.05)
    client = wire(sio)
    assert client.receive() == "1" and client.is_closed()
    eventually(lambda: not left_behind(sio), "nothing is left")


def test_who_joins_nothing_is_closed_by_polling(host: Host) -> None:
    sio = SocketIOServer(connect_timeout=0.05)
    url = f"http://127.0.0.1:{host(sio).port}/socket.io/?EIO=4&transport=polling"
    sid = json.loads(requests.get(url, timeout=60).text[1:])["sid"]
    answer = requests.get(f"{url}&sid={sid}", timeout=60)
    assert answer.text == "1" or answer.status_code == 400
    eventually(lambda: not left_behind(sio), "nothing is left")


def test_each_has_its_own_time_with_one_timer_for_all(wire: Open) -> None:
    sio = SocketIOServer(connect_timeout=0.3)
    first, joined, last = wire(sio), wire(sio), wire(sio)
    joined.join()
    for client in (first, last):
        assert client.receive() == "1" and client.is_closed()
    eventually(lambda: len(sio.arrivals) == 0, "nobody is waited for")
    late = wire(sio)
    assert late.receive() == "1" and late.is_closed()
    sio.on("echo", lambda sid, data: data)
    joined.send('421["echo","here"]')
    assert joined.receive() == '431["here"]'


def test_a_namespace_that_is_not_there_gives_no_more_time(wire: Open) -> None:
    client = wire(SocketIOServer(connect_timeout=0.05))
    client.send("40/nowhere,")
    assert client.receive() == '44/nowhere,{"message":"Invalid namespace"}'
    assert client.receive() == "1" and client.is_closed()


def test_who_is_refused_may_try_again_and_is_closed_later(wire: Open) -> None:
    sio = SocketIOServer(connect_timeout=0.05)
    sio.on("connect", lambda sid, environ, auth: bool(auth))
    client = wire(sio)
    client.send("40")
    assert client.receive().startswith("44{")
    assert client.receive() == "1" and client.is_closed()


def test_who_joined_stays_also_after_leaving_and_holds_no_timer(wire: Open) -> None:
    sio = SocketIOServer(connect_timeout=45)
    sio.on("echo", lambda sid, data: data)
    client = wire(sio)
    assert len(sio.arrivals) == 1
    client.join()
    assert len(sio.arrivals) == 0
    client.send("41")
    client.join()
    client.send('421["echo","here"]')
    assert client.receive() == '431["here"]'


def test_no_time_is_counted_while_a_connect_handler_runs(wire: Open) -> None:
    sio, counted = SocketIOServer(), []

    def connect(sid: str, environ: Any) -> None:
        counted.append(len(sio.arrivals))

    sio.on("connect", connect)
    wire(sio).join()
    assert counted == [0]
