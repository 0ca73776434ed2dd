"""The quick path of events and the one of python-socketio's packets say the same."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import websocket

from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host

EVENTS = [
    '421["none"]',
    '422["one",{"a":[1,"é"]}]',
    '423["several",1,2]',
    '424["bytes"]',
    '425["not there"]',
    '426["*",1]',
    '427["fails"]',
    '428["",1]',
    '429["one","\\u00e9\\ud83d\\ude00"]',
    '42["one","without an answer"]',
    '4291["one","\\"quoted\\" and \\\\"]',
    '4292["one","a line\\n"]',
    '4293["one",""]',
    '42999999999["one","' + "x" * 1016 + '"]',
    '4294["one","' + "x" * 1017 + '"]',
    '4295["one","' + "x" * 1025 + '"]',
    '4296["one",' + "1" * 100 + "]",
    '4297["one","' + "1" * 101 + '"] ',
    '42/other,10["one",true]',
    '42/other,11["all of it","x"]',
    '42/nowhere,12["one",1]',
]


class Quiet(SocketIOServer):
    """Its events come by python-socketio's packets."""

    def _handle_event(self, *args: Any) -> None:
        super()._handle_event(*args)


def made(kind: type[SocketIOServer], log: list[Any]) -> SocketIOServer:
    sio = kind(namespaces=["/", "/other"], async_handlers=False)
    sio.on("none", lambda sid: log.append("none"))
    for namespace in ("/", "/other"):
        sio.on("one", lambda sid, data: log.append(data) or data, namespace=namespace)
    sio.on("several", lambda sid, *data: data)
    sio.on("bytes", lambda sid: [b"\x00\x01", {"b": b"\x02"}])
    sio.on("fails", lambda sid: 1 / 0)
    sio.on("*", lambda event, sid, *data: log.append((event, data)) or [event, *data], namespace="/other")
    sio.on("end", lambda sid: "end")
    return sio


@pytest.fixture
def answers(host: Host) -> Iterator[Callable[[SocketIOServer], list[Any]]]:
    with ExitStack() as stack:

        def ask(sio: SocketIOServer) -> list[Any]:
            url = f"ws://127.0.0.1:{host(sio).port}/socket.io/?EIO=4&transport=websocket"
            client = websocket.create_connection(url, timeout=60)
            stack.callback(client.shutdown)
            client.recv()
            for join in ("40", "40/other,"):
                client.send(join)
                client.recv()
            for event in [*EVENTS, '42999["end"]']:
                client.send(event)
            got: list[Any] = []
            while not got or got[-1] != '43999["end"]':
                got.append(client.recv())
            return got

        yield ask


def test_both_ways_say_the_same(answers: Callable[[SocketIOServer], list[Any]]) -> None:
    logs: list[list[Any]] = [[], []]
    quick, slow = made(SocketIOServer, logs[0]), made(Quiet, logs[1])
    assert quick.eio.config().events == 1 and slow.eio.config().events == 0
    assert answers(quick) == answers(slow)
    assert logs[0] == logs[1]


def test_what_comes_with_the_change_of_transport_is_dealt_with_in_order(host: Host) -> None:
    sio, log = SocketIOServer(), []
    sio.on("n", lambda sid, number: log.append(number))
    sio.on("disconnect", lambda sid, reason: log.append(reason))
    base = f"127.0.0.1:{host(sio).port}/socket.io/?EIO=4"
    get = requests.get(f"http://{base}&transport=polling", timeout=60).text
    sid = json.loads(get[1:])["sid"]
    polling = f"http://{base}&transport=polling&sid={sid}"
    assert requests.post(polling, data="40", timeout=60).text == "ok"
    assert requests.get(polling, timeout=60).text.startswith("40{")
    client = websocket.create_connection(f"ws://{base}&transport=websocket&sid={sid}", timeout=60)
    client.send("2probe")
    assert client.recv() == "3probe"
    frames = [websocket.ABNF.create_frame(text, websocket.ABNF.OPCODE_TEXT).format() for text in
              ("5", '42["n",0]', '42["n",1]', '42["n",2]', '423["n",3]')]  # fmt: skip
    client.sock.sendall(b"".join(frames))
    assert client.recv() == "433[]"
    client.sock.sendall(b"".join(frames[1:3]) + websocket.ABNF.create_frame("1", websocket.ABNF.OPCODE_TEXT).format())
    while client.recv():
        pass
    client.shutdown()
    assert log == [0, 1, 2, 3, 0, 1, "client disconnect"]
